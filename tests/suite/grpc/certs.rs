//! Certificates by openssl, good ones and others, in a folder that goes with the test.

use crate::harness::skip;
use crate::health::openssl;
use std::path::PathBuf;

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

pub struct Certs(PathBuf);

impl Drop for Certs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Certs {
    /// `ca.pem` and another CA `other.pem`, with their keys `*.key`. `None`, said loudly, where there is no openssl.
    pub fn new(test: &str) -> Option<Certs> {
        let folder = std::env::temp_dir().join(format!("mcp-certs-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let certs = Certs(folder);
        if !openssl(&certs.0, "version") {
            skip(test, "no openssl");
            return None;
        }
        for ca in ["ca", "other"] {
            certs.run(&format!("req -x509 {KEY} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} -days 30"));
        }
        Some(certs)
    }

    #[track_caller]
    pub fn run(&self, line: &str) {
        assert!(openssl(&self.0, line), "openssl {line}");
    }

    /// A certificate `NAME.pem` of `ca` with its key `NAME.key`, for `names` (as in subjectAltName), over after `days`.
    pub fn issue(&self, name: &str, ca: &str, names: &str, days: &str) -> &Certs {
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(self.0.join("extensions"), extensions).unwrap();
        self.run(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let by = format!("-CA {ca}.pem -CAkey {ca}.key -CAcreateserial");
        self.run(&format!("x509 -req -in {name}.csr {by} -out {name}.pem -extfile extensions -days {days}"));
        self
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}
