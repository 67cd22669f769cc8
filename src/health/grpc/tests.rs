//! Peers that say what they like: each is told apart, and none is believed.
#![allow(clippy::unwrap_used)]

use super::*;
use loona_hpack::Encoder;

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const HEADER: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];
const GOOD: &[(&str, &str)] = &[("grpc-status", "0")];

/// A peer's bytes, written down frame by frame.
#[derive(Clone, Default)]
struct Said(Vec<u8>);

impl Said {
    fn settings() -> Said {
        Said::default().frame(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Said {
        frame::put(&mut self.0, kind, flags, stream, payload);
        self
    }

    fn headers(self, flags: u8, fields: &[(&str, &str)]) -> Said {
        self.frame(frame::HEADERS, flags | frame::END_HEADERS, 1, &block(fields))
    }

    fn data(self, payload: &[u8]) -> Said {
        self.frame(frame::DATA, 0, 1, payload)
    }

    fn ask(&self) -> Result<(), GrpcTrouble> {
        let told = try_answer(&self.0);
        // However it is cut into pieces.
        let mut talk = Conversation::new();
        let by_byte = self.0.iter().find_map(|b| match talk.receive(&[*b]) {
            Ok(None) => None,
            Ok(Some(answer)) => Some(judge(&answer, &Call::default())),
            Err(trouble) => Some(Err(trouble)),
        });
        if let Some(by_byte) = by_byte {
            assert_eq!(by_byte.is_ok(), told.is_ok());
        }
        told
    }

    fn says(&self) -> String {
        self.ask().map_or_else(|trouble| trouble.to_string(), |()| "SERVING".into())
    }
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    // Without memory, so that each block stands for itself.
    let mut encoder = Encoder::new();
    encoder.set_max_table_size(0);
    encoder.encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
}

fn good() -> Said {
    Said::settings().headers(0, HEADER).data(SERVING).headers(frame::END_STREAM, GOOD)
}

#[test]
fn a_good_answer() {
    assert_eq!(good().ask(), Ok(()));
    // With all that may lie in between.
    let long = block(HEADER);
    let (one, two) = long.split_at(3);
    let said = Said::settings()
        .frame(frame::SETTINGS, frame::ACK, 0, &[])
        .frame(frame::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])
        .frame(frame::PING, 0, 0, b"01234567")
        .frame(0xaa, 0xff, 77, b"whatever")
        .headers(0, &[(":status", "103"), ("link", "x")])
        .frame(frame::HEADERS, frame::PADDED | frame::WITH_PRIORITY, 1, &[&[2, 0, 0, 0, 0, 9], one, &[0, 0]].concat())
        .frame(frame::CONTINUATION, 0, 1, &[])
        .frame(frame::CONTINUATION, frame::END_HEADERS, 1, two)
        .frame(frame::PRIORITY, 0, 3, &[0; 5])
        .data(&SERVING[..3])
        .frame(frame::DATA, frame::PADDED, 1, b"\x04\0\x02\x08\x01\0\0\0\0")
        .frame(frame::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])
        .frame(frame::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 7])
        .headers(frame::END_STREAM, &[("grpc-status", "0"), ("grpc-message", "")]);
    assert_eq!(said.ask(), Ok(()));
}

#[test]
fn what_we_answer_and_ask() {
    let mut talk = Conversation::new();
    let said = Said::settings().frame(frame::PING, 0, 0, b"01234567").frame(frame::PING, frame::ACK, 0, b"76543210");
    assert!(talk.receive(&said.0).unwrap().is_none());
    let wanted =
        Said::default().frame(frame::SETTINGS, frame::ACK, 0, &[]).frame(frame::PING, frame::ACK, 0, b"01234567");
    assert_eq!(talk.reply(), wanted.0);
    assert!(talk.reply().is_empty());
    let metadata = vec![Metadata { name: "x".into(), value: "y".repeat(20_000) }];
    let call = Call { service: "a".into(), metadata, ..Call::default() };
    let check = Check::new(super::super::Kind::Tcp, "h", 1, std::time::Duration::from_secs(1));
    let sent = request(&check, &call, Deadline::after(check.timeout));
    let mut rest = sent.strip_prefix(frame::PREFACE).unwrap();
    let mut kinds = Vec::new();
    while let Some((frame, after)) = frame::take(rest).unwrap() {
        kinds.push((frame.kind, frame.flags, frame.stream));
        rest = after;
    }
    let (headers, more) = ((frame::HEADERS, 0, 1), (frame::CONTINUATION, frame::END_HEADERS, 1));
    assert_eq!(kinds, [(frame::SETTINGS, 0, 0), headers, more, (frame::DATA, frame::END_STREAM, 1)]);
    assert!(rest.is_empty());
}

#[test]
fn what_the_service_says() {
    let with =
        |message: &[u8]| Said::settings().headers(0, HEADER).data(message).headers(frame::END_STREAM, GOOD).says();
    assert_eq!(with(b"\0\0\0\0\x02\x08\x02"), "NOT_SERVING");
    assert_eq!(with(b"\0\0\0\0\0"), "UNKNOWN: the service does not know its health");
    assert_eq!(with(b"\0\0\0\0\x02\x08\x09"), "an unknown serving status: 9");
    assert!(with(b"\0\0\0\0\x02\x08\x03").starts_with("unknown service: "));
    assert_eq!(with(b""), "not gRPC: an answer without a message");
    assert_eq!(with(b"\0\0\0\0\x03\x08\x01"), "not gRPC: an answer that ends in the middle of its message");
    assert_eq!(with(b"\0\0\0\0\x02\x08\x01\0"), "not gRPC: more than one message");
    assert_eq!(with(b"\x01\0\0\0\x02\x08\x01"), "not gRPC: a compressed message, which nobody asked for");
    assert_eq!(with(&[0; 6000]), "not gRPC: more than one message");
    assert_eq!(with(b"\0\xff\0\0\0"), "not gRPC: a message of 4278190080 bytes; an answer about health has two");
}

#[test]
fn trailers_only_and_other_statuses() {
    let with = |fields: &[(&str, &str)]| Said::settings().headers(frame::END_STREAM, fields).says();
    let status = |code, message| with(&[HEADER, &[("grpc-status", code), ("grpc-message", message)]].concat());
    assert_eq!(
        status("12", "unknown%20service"),
        "UNIMPLEMENTED: the server has no grpc.health.v1.Health: unknown service"
    );
    assert!(status("5", "x").starts_with("unknown service: "));
    assert_eq!(status("14", ""), "gRPC UNAVAILABLE");
    assert_eq!(status("16", "who%3F%1b%5B"), "gRPC UNAUTHENTICATED: who?\\u{1b}[");
    assert_eq!(status("99", "x"), "gRPC status 99: x");
    assert_eq!(status("0", ""), "not gRPC: an answer without a message");
    assert_eq!(status("zero", ""), "not gRPC: grpc-status is \"zero\"");
    assert_eq!(with(HEADER), "not gRPC: an answer that ends without a grpc-status");
    assert_eq!(with(&[(":status", "404"), ("content-type", "text/html")]), "not gRPC: HTTP status 404");
    assert_eq!(with(&[(":status", "200"), ("content-type", "text/html")]), "not gRPC: content-type \"text/html\"");
    assert_eq!(with(&[(":status", "200")]), "not gRPC: no content-type");
    assert_eq!(with(&[("content-type", "application/grpc")]), "broken HTTP/2: a header without :status");
    assert_eq!(with(&[(":status", "100")]), "broken HTTP/2: an answer that ends with status 100");
    // gRPC's own word goes before HTTP's.
    let both = [(":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "8")];
    assert_eq!(with(&both), "gRPC RESOURCE_EXHAUSTED");
}

#[test]
fn what_is_not_http2() {
    let with = |bytes: &[u8]| Said(bytes.to_vec()).says();
    assert_eq!(with(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not HTTP/2: the peer speaks HTTP/1");
    assert_eq!(with(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP/2: the answer begins with \"SSH-2.0-OpenSSH_\"");
    assert_eq!(with(b"\x15\x03\x03\0\x02\x02F"), "not HTTP/2: the peer speaks TLS; use grpcs (tls = true)");
    assert_eq!(with(b"\xff\xfe\xfd"), "not HTTP/2: the answer begins with the bytes ff fe fd");
    assert_eq!(with(b"HT"), "not HTTP/2: closed after \"HT\"");
    assert_eq!(with(b"\0\0\x06\x04"), "not HTTP/2: closed after the bytes 00 00 06 04");
    assert_eq!(with(b"\0\0\0\x99\0\0\0\0\0"), "not HTTP/2: the answer begins with the bytes 00 00 00 99 00 00 00 00");
}

#[test]
fn frames_out_of_order() {
    let after = |kind, flags, stream, payload: &[u8]| Said::settings().frame(kind, flags, stream, payload).says();
    let first = Said::default().frame(frame::PING, 0, 0, &[0; 8]);
    assert_eq!(first.says(), "broken HTTP/2: the first frame is PING, not SETTINGS");
    assert_eq!(after(frame::DATA, 0, 1, SERVING), "broken HTTP/2: DATA before HEADERS");
    assert_eq!(after(frame::DATA, 0, 3, SERVING), "broken HTTP/2: DATA on stream 3, which nobody has opened");
    let lost = after(frame::CONTINUATION, 0, 1, &[]);
    assert_eq!(lost, "broken HTTP/2: CONTINUATION without HEADERS before it");
    let cut = Said::settings().frame(frame::HEADERS, 0, 1, &[]).frame(frame::PING, 0, 0, &[0; 8]);
    assert_eq!(cut.says(), "broken HTTP/2: a PING frame in the middle of a header block");
    assert_eq!(after(frame::PUSH_PROMISE, 0, 1, &[]), "broken HTTP/2: PUSH_PROMISE, though push is switched off");
    assert_eq!(after(frame::PING, 0, 1, &[0; 8]), "broken HTTP/2: PING on stream 1");
    assert_eq!(after(frame::PING, 0, 0, &[0; 7]), "broken HTTP/2: PING of 7 bytes");
    assert_eq!(after(frame::SETTINGS, 0, 0, &[0; 7]), "broken HTTP/2: SETTINGS of 7 bytes");
    assert_eq!(after(frame::SETTINGS, frame::ACK, 0, &[0; 6]), "broken HTTP/2: SETTINGS of 6 bytes");
    assert_eq!(after(frame::WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 0]), "broken HTTP/2: WINDOW_UPDATE by nothing");
    assert_eq!(after(frame::WINDOW_UPDATE, 0, 0, &[1]), "broken HTTP/2: WINDOW_UPDATE of 1 bytes");
    assert_eq!(after(frame::GOAWAY, 0, 0, &[0; 7]), "broken HTTP/2: GOAWAY of 7 bytes");
    assert_eq!(after(frame::PRIORITY, 0, 1, &[0; 4]), "broken HTTP/2: PRIORITY of 4 bytes");
    assert_eq!(after(frame::RST_STREAM, 0, 1, &[0; 5]), "broken HTTP/2: RST_STREAM of 5 bytes");
    let twice = Said::settings().headers(0, HEADER).headers(0, GOOD);
    assert_eq!(twice.says(), "broken HTTP/2: a second header");
    let status = Said::settings().headers(0, HEADER).headers(frame::END_STREAM, HEADER);
    assert_eq!(status.says(), "broken HTTP/2: trailers with a :status");
}

#[test]
fn a_peer_that_ends_it() {
    let away = |last: u8| [&[0, 0, 0, last, 0, 0, 0, 11][..], b"too_many_pings\n"].concat();
    let before = Said::settings().frame(frame::GOAWAY, 0, 0, &away(0));
    assert_eq!(before.says(), "the peer ended the connection: GOAWAY ENHANCE_YOUR_CALM: too_many_pings");
    let at_once = Said::default().frame(frame::GOAWAY, 0, 0, &away(1));
    assert_eq!(at_once.says(), before.says());
    // The call may still be answered, and if not, that was why.
    let after = Said::settings().frame(frame::GOAWAY, 0, 0, &away(1));
    assert_eq!(after.says(), before.says());
    assert_eq!(after.headers(0, HEADER).data(SERVING).headers(frame::END_STREAM, GOOD).says(), "SERVING");
    let reset = |code| Said::settings().frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, code]).says();
    assert_eq!(reset(7), "the peer broke off the call: RST_STREAM REFUSED_STREAM");
    assert_eq!(reset(99), "the peer broke off the call: RST_STREAM 0x63");
    assert_eq!(Said(good().0[..40].to_vec()).says(), "broken HTTP/2: closed in the middle of a frame");
    assert_eq!(Said::settings().headers(0, HEADER).says(), "broken HTTP/2: closed in the middle of the gRPC answer");
}

#[test]
fn what_never_ends_is_ended() {
    let many = |n, frame: fn(Said) -> Said| (0..n).fold(Said::settings(), |said, _| frame(said)).says();
    let pings = many(33, |said| said.frame(frame::PING, 0, 0, &[0; 8]));
    assert_eq!(pings, "broken HTTP/2: more than 32 PINGs and no answer");
    let settings = many(16, |said| said.frame(frame::SETTINGS, 0, 0, &[]));
    assert_eq!(settings, "broken HTTP/2: more than 16 SETTINGS and no answer");
    let frames = many(300, |said| said.frame(0x77, 0, 0, &[]));
    assert_eq!(frames, "broken HTTP/2: more than 256 frames and no answer");
    let empty = Said::settings().frame(frame::HEADERS, 0, 1, &[]);
    let empty = (0..300).fold(empty, |said, _| said.frame(frame::CONTINUATION, 0, 1, &[]));
    assert_eq!(empty.says(), "broken HTTP/2: more than 256 frames and no answer");
    let block =
        Said::settings().frame(frame::HEADERS, 0, 1, &[0x88; 16_000]).frame(frame::CONTINUATION, 0, 1, &[0; 400]);
    assert_eq!(block.says(), "broken HTTP/2: header blocks of more than 16 KiB");
    let informed = many(300, |said| said.headers(0, &[(":status", "103"), ("x", "012345678901234567890123456789")]));
    assert_eq!(informed, "broken HTTP/2: more than 256 frames and no answer");
    let long = Said(b"\0\x40\x01\x04\0\0\0\0\0".to_vec());
    assert_eq!(long.says(), "broken HTTP/2: a frame of 16385 bytes; 16384 are allowed");
}

/// What fuzz/fuzz_targets/grpc_answer.rs does, with some thousand inputs: good answers with a few bytes changed, and
/// frames at random.
#[test]
fn a_peer_may_say_anything() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut healthy = 0;
    for round in 0..20_000 {
        let mut bytes = if round % 4 == 0 {
            let mut said = if roll(4) == 0 { Said::default() } else { Said::settings() };
            for _ in 0..roll(6) {
                let payload: Vec<u8> = (0..roll(40)).map(|_| u8::try_from(roll(256)).unwrap()).collect();
                let (kind, flags) = (u8::try_from(roll(11)).unwrap(), u8::try_from(roll(64)).unwrap());
                said = said.frame(kind, flags, u32::try_from(roll(3)).unwrap(), &payload);
            }
            said.0
        } else {
            good().0
        };
        for _ in 0..round % 5 {
            let at = roll(bytes.len().max(1));
            match (roll(3), bytes.get_mut(at)) {
                (0, Some(byte)) => *byte = u8::try_from(roll(256)).unwrap(),
                (1, Some(byte)) => *byte ^= 1 << roll(8),
                (_, Some(_)) => bytes.truncate(at),
                (_, None) => bytes.push(0),
            }
        }
        match try_answer(&bytes) {
            Ok(()) => healthy += 1,
            Err(trouble) => assert!(!trouble.to_string().contains(char::is_control), "{trouble}"),
        }
    }
    assert!((1_000..15_000).contains(&healthy), "{healthy} of 20000");
}
