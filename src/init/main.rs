//! The life of a microvm: set up, run the program, tell the host how it ended, halt.

use super::handover::{self, Handover};
use super::mount::{self, OnDisk};
use super::output::{self, Output};
use super::power::Buttons;
use super::report::{Fail, Port, say};
use super::watch::{self, Ended};
use super::{end, module, network, program, user, volume};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

/// Files of the guest that init reads are cut off here.
const FILE_MAX: u64 = 1 << 20;

/// The program.
pub fn main() -> ExitCode {
    if std::process::id() != 1 {
        say("runs only as PID 1 of a microvm, see mcp-guest-init(8)");
        return ExitCode::from(100);
    }
    let mut on_disk = OnDisk::default();
    let (mut port, mut output) = (None, None);
    let result = run(&mut on_disk, &mut port, &mut output);
    // Whether or not the program ever ran, the file systems on disk are left clean.
    let code = match &result {
        Ok(Ended::Exit(code)) => *code,
        Ok(Ended::Signal(signal)) => 128_u8.saturating_add(*signal),
        Err(fail) => {
            say(&fail.text);
            fail.code
        }
    };
    if let Some(port) = &port {
        match result {
            Ok(Ended::Exit(code)) => port.send_last(&format!("exit {code}")),
            Ok(Ended::Signal(signal)) => port.send_last(&format!("signal {signal}")),
            Err(fail) => port.send_last(&format!("fail {}", fail.text)),
        }
    }
    if let Ok(signals) = watch::signals() {
        watch::kill_rest(&signals);
    }
    if let Some(output) = &mut output {
        output.drain();
    }
    on_disk.close();
    nix::unistd::sync();
    end::halt(code)
}

fn run(on_disk: &mut OnDisk, port: &mut Option<Port>, output: &mut Option<Output>) -> Result<Ended, Fail> {
    mount::kernel_file_systems()?;
    module::load_all();
    let port = port.insert(Port::open());
    // Opened early: a press during boot waits in the kernel and reaches the program.
    let mut buttons = Buttons::open();
    if buttons.is_empty() {
        say("no power button, so the host can't ask for a graceful stop");
    }
    let handover = read_handover()?;
    stir(&handover.seed);
    if !handover.hostname.is_empty() {
        let name = handover.hostname.as_bytes();
        // SAFETY: a buffer and its length.
        unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
    }
    network::start();
    mount::root(&handover, on_disk)?;
    mount::furnish();
    write_network_files(&handover);
    let user = user::resolve(&handover.user, &read_text("/etc/passwd"), &read_text("/etc/group")).map_err(Fail::new)?;
    volume::mount_all(&handover.volumes, &user, on_disk)?;
    if !handover.workdir.is_empty() {
        mount::make_directory(&handover.workdir, 0o755)?;
    }
    console(user.uid);
    let signals = watch::signals()?;
    let mut pipe = None;
    if !handover.tty {
        let (reader, writer) = output::pipe(user.uid)?;
        (*output, pipe) = (Some(reader), Some(writer));
    }
    let program = program::start(&handover, &user, pipe.as_ref())?;
    drop(pipe);
    port.send("up");
    let stop_signal = match handover.stop_signal {
        0 => libc::SIGTERM,
        number => number.into(),
    };
    Ok(watch::until_end(program, &signals, &mut buttons, output, stop_signal))
}

fn read_handover() -> Result<Handover, Fail> {
    let bytes = fs::read(handover::PATH).map_err(|e| Fail::new(format!("read {}: {e}", handover::PATH)))?;
    // It holds secrets, and the initramfs stays in memory for as long as the guest lives.
    let _ = fs::remove_file(handover::PATH);
    let _ = fs::remove_file("/init");
    handover::decode(&bytes).map_err(Fail::new)
}

/// Feeds the kernel's random number generator and lets it count, so that no program waits for entropy.
fn stir(seed: &[u8]) {
    if seed.is_empty() {
        return;
    }
    // struct rand_pool_info of linux/random.h: bits of entropy, size in bytes, the bytes.
    let mut info = Vec::with_capacity(8 + seed.len());
    info.extend_from_slice(&(seed.len() as i32 * 8).to_ne_bytes());
    info.extend_from_slice(&(seed.len() as i32).to_ne_bytes());
    info.extend_from_slice(seed);
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    if let Ok(file) = OpenOptions::new().write(true).open("/dev/urandom") {
        // SAFETY: the kernel reads the two numbers and as many bytes as the second says.
        unsafe { libc::ioctl(file.as_raw_fd(), RNDADDENTROPY, info.as_ptr()) };
    }
}

/// The console becomes our output, and the program's where that is to be a terminal: bytes pass unchanged (no carriage returns), and the program may
/// open it by name (/dev/stdout) whoever it runs as.
fn console(uid: u32) {
    let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") else { return };
    if let Ok(mut settings) = tcgetattr(&console) {
        settings.output_flags.remove(OutputFlags::OPOST);
        let _ = tcsetattr(&console, SetArg::TCSANOW, &settings);
    }
    let _ = nix::unistd::fchown(console.as_fd(), Some(uid.into()), None);
    for fd in [1, 2] {
        // SAFETY: both descriptors are plain numbers; 1 and 2 are not owned by any value of ours.
        unsafe { libc::dup2(console.as_raw_fd(), fd) };
    }
}

/// /etc/hosts and /etc/resolv.conf, written at each boot as container engines do.
fn write_network_files(handover: &Handover) {
    let _ = fs::create_dir("/etc");
    let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_string();
    if !handover.hostname.is_empty() {
        hosts.push_str(&format!("{} {}\n", network::ADDRESS, handover.hostname));
    }
    let mut files = vec![("/etc/hosts", hosts)];
    if !handover.hostname.is_empty() {
        files.push(("/etc/hostname", format!("{}\n", handover.hostname)));
    }
    if !handover.resolv_conf.is_empty() {
        files.push(("/etc/resolv.conf", handover.resolv_conf.clone()));
    }
    for (path, text) in files {
        // It may be a link into a /run that is empty here.
        let _ = fs::remove_file(path);
        if let Err(e) = fs::write(path, text) {
            say(&format!("write {path}: {e}"));
        }
    }
}

fn read_text(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
