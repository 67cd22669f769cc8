//! What unikernels are built with: the program `ops`, and the Nanos that it has fetched.

use crate::model::node::Ops;
use crate::sys::{Error, Result, file};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the installer of `ops` puts it, below the home of whoever ran it.
const INSTALLED: &str = ".ops/bin/ops";

/// `ops`, and a version of Nanos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The program.
    pub ops: PathBuf,
    /// The folder of that version: `kernel.img`, `boot.img`, perhaps `klibs/`.
    pub folder: PathBuf,
    /// The version's name.
    pub version: String,
    /// Which files these are.
    pub prints: Vec<Print>,
}

/// Which file that is, told without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Print {
    size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Parts {
    /// Finds them, as `[ops]` in the node config says, else in the usual places. The error tells the way out.
    pub fn find(config: &Ops) -> Result<Parts> {
        Parts::find_with(config, &homes(), std::env::var_os("PATH"))
    }

    fn find_with(config: &Ops, homes: &[PathBuf], path: Option<OsString>) -> Result<Parts> {
        let ops = program(&config.binary, homes, path)?;
        let (folder, version) = nanos(config, homes)?;
        let files = [ops.clone(), folder.join("kernel.img"), folder.join("boot.img")];
        let prints = files.iter().map(|f| print(f)).collect::<Result<_>>()?;
        Ok(Parts { ops, folder, version, prints })
    }
}

/// The parents of `.ops` that may be meant when none is configured: what `ops` itself would take, then the home that
/// the user database tells, which a service of systemd has no variable for.
fn homes() -> Vec<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    let mut homes: Vec<PathBuf> = [of("OPS_HOME"), of("HOME"), own].into_iter().flatten().collect();
    homes.dedup();
    homes
}

fn program(binary: &Path, homes: &[PathBuf], path: Option<OsString>) -> Result<PathBuf> {
    let way_out = "install it (https://ops.city) or name it in mcp.toml, [ops] binary; \
                   runtime = \"microvm\" would run it without";
    if binary.components().count() > 1 {
        return match binary.is_file() {
            true => Ok(binary.to_path_buf()),
            false => {
                Err(Error::refused(binary.display(), format!("no such program, and unikernels need ops: {way_out}")))
            }
        };
    }
    let path = path.unwrap_or_default();
    let places = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(binary));
    let found = places.chain(homes.iter().map(|home| home.join(INSTALLED))).find(|p| p.is_file());
    found.ok_or_else(|| Error::refused(binary.display(), format!("not found, and unikernels need it: {way_out}")))
}

/// The folder of Nanos and its version.
fn nanos(config: &Ops, homes: &[PathBuf]) -> Result<(PathBuf, String)> {
    let homes = match &config.home {
        Some(home) => std::slice::from_ref(home),
        None => homes,
    };
    let mut version = config.nanos_version.clone();
    for home in homes {
        let dir = home.join(".ops");
        let latest = match &config.nanos_version {
            Some(version) => Some(version.clone()),
            None => latest(&dir)?,
        };
        let Some(latest) = latest else { continue };
        let folder = dir.join(&latest);
        if folder.join("kernel.img").is_file() && folder.join("boot.img").is_file() {
            return Ok((folder, latest));
        }
        version = Some(latest);
    }
    let places: Vec<String> = homes.iter().map(|home| home.join(".ops").display().to_string()).collect();
    let which = version.map_or_else(|| "no Nanos".into(), |v| format!("no kernel.img and boot.img of Nanos {v}"));
    let reason = format!("{which} there; \"ops update\" fetches it, [ops] home in mcp.toml says where .ops is");
    Err(Error::refused(if places.is_empty() { ".ops".to_string() } else { places.join(", ") }, reason))
}

/// What `latest.txt` says, where it is there.
fn latest(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("latest.txt");
    let Some(text) = file::read_regular(&path, 4096)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text).trim().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    if text.is_empty() || text.starts_with('.') || text.len() > 64 || !text.bytes().all(plain) {
        return Err(Error::refused(path.display(), "names no version; \"ops update\" writes it"));
    }
    Ok(Some(text))
}

fn print(path: &Path) -> Result<Print> {
    let about = std::fs::metadata(path).map_err(Error::path("stat", path))?;
    Ok(Print { size: about.size(), inode: about.ino(), modified: (about.mtime(), about.mtime_nsec()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn told(config: &Ops, homes: &[PathBuf], path: &str) -> String {
        Parts::find_with(config, homes, Some(path.into())).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_told_with_the_way_out() {
        let dir = std::env::temp_dir().join(format!("mcp-parts-{}", std::process::id()));
        let ops = dir.join(".ops");
        fs::create_dir_all(ops.join("0.1.54")).unwrap();
        let (config, homes) = (Ops::default(), [dir.clone()]);
        let text = told(&config, &homes, "/nowhere");
        assert!(text.starts_with("ops: not found") && text.contains("https://ops.city"), "{text}");
        assert!(text.contains("runtime = \"microvm\""), "{text}");
        let named = Ops { binary: "/no/ops".into(), ..Ops::default() };
        assert!(told(&named, &homes, "").starts_with("/no/ops: no such program"), "{}", told(&named, &homes, ""));

        fs::create_dir_all(ops.join("bin")).unwrap();
        fs::write(ops.join("bin/ops"), "x").unwrap();
        assert!(told(&config, &homes, "").contains("no Nanos there"));
        fs::write(ops.join("latest.txt"), "../x\n").unwrap();
        assert!(told(&config, &homes, "").contains("names no version"));
        fs::write(ops.join("latest.txt"), "0.1.54\n").unwrap();
        assert!(told(&config, &homes, "").contains("boot.img of Nanos 0.1.54"));
        fs::write(ops.join("0.1.54/kernel.img"), "k").unwrap();
        fs::write(ops.join("0.1.54/boot.img"), "b").unwrap();
        let parts = Parts::find_with(&config, &homes, None).unwrap();
        assert_eq!((parts.ops, parts.version.as_str()), (ops.join("bin/ops"), "0.1.54"));
        let other = Ops { nanos_version: Some("0.1.55".into()), ..Ops::default() };
        assert!(told(&other, &homes, "").contains("Nanos 0.1.55"));
        let elsewhere = Ops { home: Some("/no".into()), ..Ops::default() };
        assert!(told(&elsewhere, &homes, "").starts_with("/no/.ops: "));
        fs::remove_dir_all(dir).unwrap();
    }
}
