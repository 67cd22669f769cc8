//! Options about what is spoken: TLS and gRPC.

use crate::health::{Call, Check, Identity, Kind, Metadata, Tls};
use crate::sys::{Error, Result};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "tls_no_verify")]
    ca: Option<PathBuf>,
    /// The name that the certificate must have
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Take any certificate, whoever it is of
    #[arg(long)]
    tls_no_verify: bool,
    /// Show this certificate to a server that wants one: a PEM file, with --key
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert: a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// gRPC: ask as if the server had this name (:authority)
    #[arg(long, value_name = "NAME", value_parser = authority)]
    authority: Option<String>,
    /// gRPC: send this along; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = Metadata::parse)]
    headers: Vec<Metadata>,
}

fn authority(text: &str) -> std::result::Result<String, String> {
    match !text.is_empty() && text.len() <= 300 && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_string()),
        false => Err("not HOST or HOST:PORT".into()),
    }
}

impl Options {
    /// How TLS is spoken with a URL's server.
    pub fn tls(&self) -> Tls {
        Tls {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            no_verify: self.tls_no_verify,
            identity: self.identity(),
        }
    }

    fn identity(&self) -> Option<Identity> {
        let (cert, key) = self.cert.clone().zip(self.key.clone())?;
        Some(Identity { cert, key })
    }

    /// What was given goes before what `check` has of a definition.
    pub fn adjust(&self, check: &mut Check) {
        if let Some(tls) = &mut check.tls {
            tls.ca = self.ca.clone().or(tls.ca.take());
            tls.server_name = self.server_name.clone().or(tls.server_name.take());
            tls.no_verify |= self.tls_no_verify;
            tls.identity = self.identity().or(tls.identity.take());
        }
        if let Kind::Grpc(Call { authority, metadata, .. }) = &mut check.kind {
            *authority = self.authority.clone().or(authority.take());
            metadata.extend(self.headers.iter().cloned());
        }
    }

    /// Refuses what means nothing to any of the checks: whether one `tls` or `grpc` is spoken.
    pub fn make_sense(&self, tls: bool, grpc: bool) -> Result<()> {
        let of_tls = [
            ("--ca", self.ca.is_some()),
            ("--server-name", self.server_name.is_some()),
            ("--tls-no-verify", self.tls_no_verify),
            ("--cert", self.cert.is_some()),
        ];
        let of_grpc = [("--authority", self.authority.is_some()), ("--header", !self.headers.is_empty())];
        let given = |options: &[(&'static str, bool)]| options.iter().find(|o| o.1).map(|o| o.0);
        let usage = |option: &str, why: &str| Err(Error::Usage { what: format!("{option}: {why}") });
        match (given(&of_tls), given(&of_grpc)) {
            (Some(option), _) if !tls => {
                usage(option, "no target speaks TLS; https:// and grpcs:// do, and tls = true")
            }
            (_, Some(option)) if !grpc => usage(option, "no target is asked by gRPC; grpc:// and kind = \"grpc\" are"),
            _ => Ok(()),
        }
    }
}
