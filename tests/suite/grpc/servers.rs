//! Real gRPC servers, each a process that ends with the test: grpcio and its aio, grpclib, grpc-go.

use crate::harness::{have, skip};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Python's, on gRPC's C core.
    Grpcio,
    /// The same, its asyncio one.
    Aio,
    /// Pure Python over h2.
    Grpclib,
    /// Go's.
    Go,
}

impl Make {
    pub const ALL: [Make; 4] = [Make::Grpcio, Make::Aio, Make::Grpclib, Make::Go];
}

pub struct Server {
    process: Child,
    output: Mutex<BufReader<std::process::ChildStdout>>,
    pub port: u16,
}

impl Server {
    pub fn url(&self, service: &str) -> String {
        format!("grpc://127.0.0.1:{}/{service}", self.port)
    }

    pub fn tls_url(&self, service: &str) -> String {
        format!("grpcs://127.0.0.1:{}/{service}", self.port)
    }

    /// The metadata of the next call that it took.
    pub fn metadata(&self) -> serde_json::Value {
        let mut line = String::new();
        self.output.lock().unwrap_or_else(PoisonError::into_inner).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/grpc").join(path)
}

/// Starts one; `None`, said loudly, where what it is made of is not there.
pub fn start(test: &str, make: Make, args: &[&str]) -> Option<Server> {
    let mut command = match make {
        Make::Go => Command::new(go_server(test)?),
        Make::Grpclib => python(test, "pure_server.py")?,
        Make::Grpcio | Make::Aio => python(test, "health_server.py")?,
    };
    if make == Make::Aio {
        command.arg("--aio");
    }
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let port = line.trim().parse().unwrap_or_else(|_| panic!("{make:?} {args:?} did not start: {line:?}"));
    Some(Server { process, output: Mutex::new(output), port })
}

/// Python with gRPC's packages, about to run `script`. MCP_TEST_GRPC names the folder that scripts/lib/get-test-grpc laid
/// down (default: `test-grpc` in the target folder).
fn python(test: &str, script: &str) -> Option<Command> {
    let named = std::env::var_os("MCP_TEST_GRPC").filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-grpc"));
    if !folder.join("grpc_health").is_dir() {
        skip(test, "no gRPC for Python: set MCP_TEST_GRPC, or run scripts/lib/get-test-grpc TARGET/test-grpc");
        return None;
    }
    if !have(test, "python3") {
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(source(script)).env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// The Go server, built once a run; Go's own cache makes it quick the next time.
pub fn go_server(test: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if !have(test, "go") {
        return None;
    }
    let built = BUILT.get_or_init(|| {
        let server = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc-go-server");
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&server).arg(".").current_dir(source("go"));
        // Static: it runs in guests as well.
        let output = command.env("CGO_ENABLED", "0").stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        output.status.success().then_some(server).ok_or(format!("go build: {said}"))
    });
    match built {
        Ok(server) => Some(server.clone()),
        // A Go that is too old, or no way to its modules.
        Err(why)
            if why.contains("requires go") || why.contains("dial tcp") || why.contains("module lookup disabled") =>
        {
            skip(test, why);
            None
        }
        Err(why) => panic!("{why}"),
    }
}
