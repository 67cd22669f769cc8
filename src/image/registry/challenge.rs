//! `WWW-Authenticate` (RFC 9110, 11.6.1), and the tokens that a registry's token server gives for it.

use super::client::{Client, Request};
use super::credentials::{Credentials, Secret};
use super::url::{Server, Url};
use super::words;
use crate::model::reference::Named;
use crate::sys::{Deadline, Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::time::Duration;
use ureq::http::{HeaderMap, Method};

/// No token comes near this many bytes.
const TOKEN_MAX: u64 = 256 << 10;

/// A token server that takes longer is down.
const TOKEN_LIMIT: Duration = Duration::from_secs(60);

/// What a server wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
}

/// All challenges of an answer.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all("www-authenticate").iter().filter_map(|v| v.to_str().ok());
    texts.flat_map(parse).collect()
}

/// Reads one header: challenges and their parameters, all divided by commas, so that what has no `=` after it begins
/// the next one.
fn parse(text: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // An end, or a "=" that belongs to nothing.
            match after.strip_prefix('=') {
                Some(after) => rest = after,
                None => return all,
            }
            continue;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        let (Some(value), Some(current)) = (value, all.last_mut()) else {
            all.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = after;
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let text;
        (text, rest) = match value.strip_prefix('"') {
            Some(inside) => unquote(inside),
            None => {
                let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
                let (token, after) = value.split_at(end);
                (token.to_string(), after)
            }
        };
        current.parameters.push((word.to_ascii_lowercase(), text));
    }
}

/// What is before the closing quote, and what is after it.
fn unquote(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, text.get(at + 1..).unwrap_or_default()),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

/// Asks for what.
pub(super) struct Asker<'a> {
    pub client: &'a Client,
    pub named: &'a Named,
    /// The registry that has sent the challenge.
    pub server: &'a Server,
    pub credentials: Option<&'a Credentials>,
}

impl Asker<'_> {
    /// What to send as `Authorization`.
    pub fn answer(&self, challenges: &[Challenge], deadline: Deadline) -> Result<String> {
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(Secret::Registry(token)) = self.credentials.map(|c| &c.secret) {
            return Ok(format!("Bearer {token}"));
        }
        if let Some(challenge) = of("bearer") {
            return self.token(challenge, deadline.min(Deadline::after(TOKEN_LIMIT)));
        }
        if of("basic").is_some() {
            return match self.credentials.map(|c| &c.secret) {
                Some(Secret::Password { user, password }) => Ok(basic(user, password)),
                _ => Err(self.login("")),
            };
        }
        Err(Error::refused(self.named, format!("{} wants a kind of login that is not known here", self.named.host)))
    }

    /// There is no way in without credentials, or not with these; `told` is the server's message.
    pub fn login(&self, told: &str) -> Error {
        let (host, told) = (&self.named.host, words::in_brackets(told));
        let reason = match self.credentials {
            Some(c) => format!("{host} refuses the login of {}{told}; run podman login {host}", c.from),
            None => format!("{host} wants a login, or has no such image{told}; run podman login {host}"),
        };
        Error::refused(self.named, reason)
    }

    fn token(&self, challenge: &Challenge, deadline: Deadline) -> Result<String> {
        let refused = |reason: &str| Error::refused(&self.named.host, reason);
        let realm = challenge.get("realm").ok_or_else(|| refused("wants a token and doesn't say from where"))?;
        let mut url =
            Url::parse(realm).ok_or_else(|| refused("wants a token from what is no http or https address"))?;
        if !self.client.may_lead(self.server, &url.server) {
            let there = url.server.authority();
            let reason = format!(
                "wants a login sent to {there} without TLS; to allow that, set insecure = true in [registry.\"{there}\"]"
            );
            return Err(refused(&reason));
        }
        let scope = challenge.get("scope").map(str::to_string);
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.named.name));
        let mut query = format!("scope={}", encode(&scope));
        if let Some(service) = challenge.get("service") {
            query.push_str(&format!("&service={}", encode(service)));
        }
        let mut request = Request {
            method: Method::GET,
            url: url.clone(),
            headers: vec![("Accept", "application/json".into())],
            authorization: None,
            form: None,
            hurry: false,
        };
        match self.credentials.map(|c| &c.secret) {
            Some(Secret::Identity(token)) => {
                let client = "grant_type=refresh_token&client_id=mcp";
                request.form = Some(format!("{client}&refresh_token={}&{query}", encode(token)));
                request.method = Method::POST;
            }
            secret => {
                if let Some(Secret::Password { user, password }) = secret {
                    request.authorization = Some(basic(user, password));
                }
                url.path.push(if url.path.contains('?') { '&' } else { '?' });
                url.path.push_str(&query);
                request.url = url;
            }
        }
        let answer = self.client.send(&request, deadline)?;
        match answer.status {
            200 => {}
            status @ (400 | 401 | 403 | 404) => {
                let told = self.client.complaint(&request, answer, deadline).1;
                log::debug!("token server: {status}: {told}");
                return Err(self.login(&told));
            }
            status => {
                let server = answer.server.clone();
                let told = self.client.complaint(&request, answer, deadline).1;
                return Err(words::status(&server, status, &told));
            }
        }
        let there = answer.server.authority();
        let bytes = answer.bytes(&there, TOKEN_MAX, self.client.patience.silence)?;
        let token = read_token(&bytes).ok_or_else(|| Error::refused(&there, "what it answers is no token"))?;
        Ok(format!("Bearer {token}"))
    }
}

/// The token in a token server's answer, when it is one that a header can hold.
fn read_token(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token)?;
    (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then_some(token)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// For a query or a form.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_servers_write_them() {
        let of = |text: &str| {
            let all = parse(text).into_iter();
            all.map(|c| {
                format!("{} {}", c.scheme, c.parameters.iter().map(|(n, v)| format!("{n}={v};")).collect::<String>())
            })
            .collect::<Vec<_>>()
        };
        for (text, told) in [
            (
                r#"Bearer realm="https://a.example/token",service="a.example",scope="repository:x/y:pull,push""#,
                &["bearer realm=https://a.example/token;service=a.example;scope=repository:x/y:pull,push;"][..],
            ),
            (r#"Basic realm="a \"b\" \\""#, &[r#"basic realm=a "b" \;"#]),
            ("Basic realm=x, Bearer realm=y , service = z", &["basic realm=x;", "bearer realm=y;service=z;"]),
            ("Negotiate, BASIC Realm=\"x", &["negotiate ", "basic realm=x;"]),
            ("Negotiate abc==, Basic realm=\"\"", &["negotiate ", "abc abc="]),
            ("", &[]),
            (",, = ,=", &[]),
        ] {
            let got = of(text);
            if !text.contains("abc") {
                assert_eq!(got, told, "{text}");
            } else {
                assert!(got.iter().any(|c| c.starts_with("basic")), "{got:?}");
            }
        }
    }

    #[test]
    fn any_header_is_read() {
        let parts = ["Bearer", " ", ",", "=", "\"", "\\", "realm", "é", "\t", "x"];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..=state % 13 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(parts[usize::try_from(state >> 20).unwrap() % parts.len()]);
            }
            assert!(parse(&text).len() <= text.len());
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(read_token(br#"{"access_token":"a","expires_in":60}"#).as_deref(), Some("a"));
        assert_eq!(read_token(br#"{"token":"b","access_token":"a"}"#).as_deref(), Some("b"));
        for bad in [&b"{}"[..], b"", br#"{"token":""}"#, br#"{"token":"a\r\nX: y"}"#, br#"{"token":1}"#] {
            assert_eq!(read_token(bad), None);
        }
        assert_eq!(encode("repository:a/b:pull ü"), "repository%3Aa%2Fb%3Apull%20%C3%BC");
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
