//! A node made of files: records, states and held locks without any VM, for what only reads them.

use crate::harness::podman;
use mcp::model::event::{EventKind, InstanceEvent};
use mcp::model::state::{End, EndedBy, Phase, SCHEMA, State};
use mcp::model::{Component, ComponentId, Record, Runtime, Source, Version, Wish};
use mcp::sys::lock::Lock;
use mcp::sys::paths::{ComponentPaths, Paths, Slot};
use mcp::sys::time;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Tree {
    pub root: PathBuf,
    pub paths: Paths,
}

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Tree {
    pub fn new() -> Tree {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("mcp-tree-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        podman::configure(&root, "vfs");
        Tree { paths: Paths::under(&root), root }
    }

    pub fn files(&self, id: &str) -> ComponentPaths {
        let id = id_of(id);
        self.paths.component(&id.service, &id.component)
    }

    /// The specification that [`Tree::define`] writes down for component NAME.
    pub fn spec(name: &str) -> Component {
        let disk = "/images/app.img".into();
        Component::new(name, Runtime::Unikernel, Source::Disk { disk, kernel: None })
    }

    pub fn record(&self, id: &str, wish: Wish, adhoc: bool) {
        let id = id_of(id);
        let spec = Tree::spec(&id.component);
        let current = Some(Version { spec, pin: None, at: String::new() });
        Record::update(&self.paths, &id, |_| Some(Record { wish, adhoc, current, ..Record::new() })).unwrap();
    }

    pub fn state(&self, id: &str, slot: Slot, change: impl FnOnce(&mut State)) {
        let files = self.files(id);
        let instance = files.instance(slot);
        std::fs::create_dir_all(&instance.run).unwrap();
        let mut state = State {
            schema: SCHEMA,
            uuid: format!("uuid of {id}"),
            phase: Phase::Ready,
            pid: 12345,
            supervisor: std::process::id() as i32,
            uid: 1_900_000_007,
            started_at: ago(90),
            ready_answer: None,
            program_started: false,
            settling: false,
            stopping: None,
            stopping_since_ms: None,
            ready_at: Some(ago(89)),
            restarts: 0,
            restarted_at: Vec::new(),
            spec: Tree::spec(&id_of(id).component).digest(),
            accel: "tcg".into(),
            ports: Vec::new(),
            scratch: Vec::new(),
            image: "/images/app.img".into(),
            qemu: "7.2.0".into(),
            argv: vec!["qemu-system-x86_64".into(), "-S".into()],
            events: vec![InstanceEvent { at: ago(90), kind: EventKind::Started }],
            console: None,
            container: None,
            end: None,
        };
        change(&mut state);
        state.write(&instance).unwrap();
        let current = files.current();
        let _ = std::fs::remove_file(&current);
        std::os::unix::fs::symlink(slot.name(), current).unwrap();
    }

    /// Holds the supervisor's lock until dropped.
    pub fn supervise(&self, id: &str) -> Lock {
        let files = self.files(id);
        std::fs::create_dir_all(&files.run).unwrap();
        let mut lock = Lock::try_take(&files.lock()).unwrap().unwrap();
        lock.sign("mcp-run-vm").unwrap();
        lock
    }

    /// Holds the lock of an instance, as its QEMU would, until dropped.
    pub fn live(&self, id: &str, slot: Slot) -> Lock {
        let instance = self.files(id).instance(slot);
        std::fs::create_dir_all(&instance.run).unwrap();
        Lock::try_take(&instance.lock()).unwrap().unwrap()
    }

    pub fn put(&self, path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("MCP_ROOT", &self.root).env_remove("MCP_LOG").stdin(Stdio::null());
        command.envs(podman::environment(&self.root));
        command
    }

    /// Runs `program` to its end, which must come within 20 s.
    pub fn run(&self, program: &str, args: &[&str]) -> Answer {
        let mut command = self.command(program);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        let until = Instant::now() + Duration::from_secs(20);
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{program} {args:?} did not end within 20 s");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Answer { code, out: out.join().unwrap(), err: err.join().unwrap() }
    }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

pub fn id_of(text: &str) -> ComponentId {
    let (service, component) = text.split_once('/').unwrap_or((text, text));
    ComponentId { service: service.into(), component: component.into() }
}

/// So many seconds ago, as states have it.
pub fn ago(seconds: u64) -> String {
    time::rfc3339(SystemTime::now() - Duration::from_secs(seconds))
}

pub fn end(by: EndedBy, code: Option<u8>) -> Option<End> {
    Some(End { at: ago(1), by, code, signal: None, rung: None, reason: "told so".into(), console: Vec::new() })
}
