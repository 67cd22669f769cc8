//! Files that nothing in an ELF names and that programs expect: name services, CA roots, the time zone, the locale.
//!
//! All of them are taken when they are there. For a dynamic program that is looked up in all layers, since its C library
//! comes from the base anyway. A static program from the upper layers must not make all the rest be fetched for files
//! that it may not even read: for it, what would need a layer below counts as not there, and where that may hurt, a
//! warning says so. So what is taken depends on the layers that are shown: whoever asks begins with the top layer alone
//! and adds one at a time, else the same image gives two answers.

use super::command::{Program, variable, workdir};
use super::include;
use super::libraries::Libraries;
use super::search::Kind;
use super::tree::Tree;
use super::walk::{join, show, walk};
use super::{Files, Found, Request, Stop, read};
use std::collections::BTreeSet;

/// CA roots where programs look: Debian and Alpine, Fedora, SUSE, RHEL, BSD's way (crypto/x509/root_linux.go).
const ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Small files that C libraries read. The guest's own resolv.conf comes from its network.
const SMALL: [&str; 10] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/services",
    "/etc/protocols",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/timezone",
];

/// Directories that programs expect, whatever is in their image (hier(7)).
pub const STANDARD: [&str; 7] = ["/run", "/tmp", "/var/run", "/var/log", "/var/lib", "/var/tmp", "/var/cache"];
/// Directories of the image that are taken without a file in them; Debian's base has 700.
const DIRECTORIES_MAX: usize = 10_000;
/// Bytes of all their paths.
const DIRECTORY_PATHS_MAX: usize = 2 << 20;
/// Directories that Nanos fills itself.
const KERNEL: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];

/// What a file that says "CA roots" in a program is named by.
const MENTION: &[u8] = b"/etc/ssl/certs";
const MENTION_MAX: u64 = 1 << 30;
/// Names in a directory of CA roots.
const ROOTS_MAX: usize = 4096;
/// Names in the folder of a locale; glibc's have thirteen.
const LOCALE_MAX: usize = 64;

/// Takes a path where it is there; `below` is set where that can't be told, if not knowing is allowed.
struct Optional<'t, 'a> {
    tree: &'t mut Tree<'a>,
    forgiving: bool,
    below: bool,
}

impl Optional<'_, '_> {
    fn take(&mut self, path: &[u8]) -> Result<Option<Found>, Stop> {
        self.forgive(|tree| Ok(tree.take(path)?.map(|w| w.found)))
    }

    /// All that is in a folder, if it is no more than `most`.
    fn folder(&mut self, path: &[u8], most: usize) -> Result<(), Stop> {
        self.forgive(|tree| {
            let files = tree.files();
            if let Some(walked) = walk(files, path)?.filter(|w| w.found == Found::Directory)
                && files.list(&walked.real)?.len() <= most
            {
                include::directory(files, path, super::tree::TAKEN_MAX, tree)?;
            }
            Ok(Some(()))
        })?;
        Ok(())
    }

    fn forgive<T>(&mut self, what: impl FnOnce(&mut Tree) -> Result<Option<T>, Stop>) -> Result<Option<T>, Stop> {
        match what(self.tree) {
            Err(Stop::Below) if self.forgiving => {
                self.below = true;
                Ok(None)
            }
            other => other,
        }
    }
}

/// Takes all of it into `tree`; `libraries` is there for a dynamic program. Gives warnings.
pub fn take(
    files: &dyn Files,
    request: &Request,
    program: &Program,
    mut libraries: Option<&mut Libraries>,
    tree: &mut Tree,
) -> Result<Vec<String>, Stop> {
    let run = &request.run;
    let mut warnings = Vec::new();
    if let Some(libraries) = libraries.as_deref_mut() {
        tree.take(libraries.configuration())?;
        if libraries.kind() == Kind::Glibc {
            tree.take(b"/etc/ld.so.preload")?;
            services(files, libraries)?;
        }
    }
    let openssl = libraries.as_deref().is_some_and(|l| l.has("libssl.so"));
    let mut optional = Optional { forgiving: libraries.is_none(), tree, below: false };
    for path in SMALL {
        optional.take(path.as_bytes())?;
    }
    zones(variable(run, "TZ"), &mut optional)?;
    locale(run, &mut optional)?;
    // Only what is not known of the CA roots is worth a warning.
    optional.below = false;
    let mut roots = false;
    for path in ROOTS.iter().copied().chain(variable(run, "SSL_CERT_FILE")).filter(|p| p.starts_with('/')) {
        roots |= optional.take(path.as_bytes())?.is_some();
    }
    if openssl {
        // OpenSSL looks roots up by the hash of their names, beside its configuration.
        for path in
            ["/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf", "/usr/lib/ssl/cert.pem", "/etc/pki/tls/openssl.cnf"]
        {
            optional.take(path.as_bytes())?;
        }
        for path in ["/usr/lib/ssl/certs", "/etc/ssl/certs"].into_iter().chain(variable(run, "SSL_CERT_DIR")) {
            optional.folder(path.as_bytes(), ROOTS_MAX)?;
        }
    }
    if optional.below && !roots && read::mentions(files, &program.file, MENTION, MENTION_MAX)? {
        warnings.push(format!(
            "{}: speaks of CA roots, and if the image has some they are in layers that were not fetched; \
             include = [\"/etc/ssl/certs\"] takes them along",
            show(&program.real)
        ));
    }
    arguments(program, run.workdir.as_bytes(), &mut optional, &mut warnings)?;
    for dir in STANDARD.iter().map(|path| path.as_bytes().to_vec()).chain([workdir(run)]) {
        optional.tree.make(&dir)?;
    }
    Ok(warnings)
}

/// Takes all directories of the layers that are there, without what is in them: programs write into
/// directories that hold no file yet. Gives a warning where there are too many.
pub fn directories(files: &dyn Files, tree: &mut Tree) -> Result<Option<String>, Stop> {
    let (paths, mut bytes) = (files.directories(DIRECTORIES_MAX + 1), 0);
    for (number, path) in paths.iter().enumerate() {
        bytes += path.len();
        if number == DIRECTORIES_MAX || bytes > DIRECTORY_PATHS_MAX || !tree.has_room() {
            return Ok(Some(format!(
                "the image has many directories: of those that hold no needed file only the upper {number} are taken \
                 along; name others in `include`"
            )));
        }
        let kernel = |dir: &&[u8]| path.strip_prefix(*dir).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        // What ops can't take is not worth a refusal here.
        let strange = std::str::from_utf8(path).is_err() || memchr::memmem::find(path, b"sysroot").is_some();
        if !strange && !KERNEL.iter().any(kernel) {
            tree.directory(path)?;
        }
    }
    Ok(None)
}

/// The modules that nsswitch.conf(5) names, and what glibc loads by name: none of them has to be there.
fn services(files: &dyn Files, libraries: &mut Libraries) -> Result<(), Stop> {
    let mut names: BTreeSet<String> = ["files", "dns"].map(String::from).into();
    if let Some((_, file)) = super::walk::file(files, b"/etc/nsswitch.conf")? {
        let text = read::whole(files, &file, 64 << 10)?.unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((_, list)) = line.split_once(':') else { continue };
            let plain = |w: &&str| w.len() <= 64 && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            names.extend(list.split_ascii_whitespace().filter(plain).map(String::from).take(64));
            if names.len() > 64 {
                break;
            }
        }
    }
    for name in names {
        libraries.also(&format!("libnss_{name}.so.2"))?;
    }
    // Unwinding, which pthread_cancel and backtrace want.
    libraries.also("libgcc_s.so.1")?;
    Ok(())
}

/// UTC, and the zone that TZ names; /etc/localtime is taken anyway. All others are `include = ["/usr/share/zoneinfo"]`.
fn zones(variable: Option<&str>, optional: &mut Optional) -> Result<(), Stop> {
    let name = variable.map(|v| v.trim_start_matches(':')).filter(|v| !v.is_empty() && !v.contains(".."));
    for zone in ["UTC", "Etc/UTC"].into_iter().chain(name) {
        optional.take(&join(b"/usr/share/zoneinfo", zone.as_bytes()))?;
    }
    Ok(())
}

/// The locale that the environment asks for, as glibc names its folder: `C.UTF-8` is in `C.utf8`.
fn locale(run: &crate::image::oci::RunConfig, optional: &mut Optional) -> Result<(), Stop> {
    let asked =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(run, name).filter(|v| !v.is_empty()));
    let Some(asked) = asked.filter(|a| !matches!(*a, "C" | "POSIX") && !a.contains('/') && a.len() < 64) else {
        return Ok(());
    };
    let mut names = vec![asked.to_string()];
    if let Some((language, set)) = asked.split_once('.') {
        names.push(format!("{language}.{}", set.to_ascii_lowercase().replace('-', "")));
    }
    for name in names {
        let path = join(b"/usr/lib/locale", name.as_bytes());
        optional.folder(&path, LOCALE_MAX)?;
    }
    if !asked.starts_with("C.") {
        optional.take(b"/usr/lib/locale/locale-archive")?;
    }
    Ok(())
}

/// Files that an argument names by an absolute path, alone or behind a `=`: a configuration, most of all.
fn arguments(
    program: &Program,
    workdir: &[u8],
    optional: &mut Optional,
    warnings: &mut Vec<String>,
) -> Result<(), Stop> {
    for argument in program.argv.iter().skip(1).take(256) {
        let path = argument.split_once('=').map_or(&argument[..], |(_, value)| value);
        let path = path.strip_prefix("file:").unwrap_or(path).as_bytes();
        let path = match path {
            [b'/', _, ..] => path.to_vec(),
            [b'.', b'/', ..] => join(&join(b"/", workdir), path),
            _ => continue,
        };
        let files = optional.tree.files();
        let found = optional.forgive(|_| Ok(walk(files, &path)?.map(|w| w.found)))?;
        match found {
            Some(Found::File(_)) => {
                optional.take(&path)?;
            }
            Some(Found::Directory) if !optional.tree.has(&path) => warnings.push(format!(
                "{}: an argument names this directory of the image, which is taken along only if `include` names it",
                show(&path)
            )),
            _ => {}
        }
    }
    Ok(())
}
