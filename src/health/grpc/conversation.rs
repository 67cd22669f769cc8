//! Our side of one connection with one call on it: what came goes in, what shall be sent comes out. It reads and writes
//! nothing itself, so any bytes can be tried on it.

use super::frame::{self, Frame};
use super::headers::{BLOCKS_MAX, Fields, Unpacker};
use super::message::{self, PREFIX, Status};
use super::words::shown;
use super::{GrpcTrouble, opening};

/// The one stream that we open.
pub(super) const STREAM: u32 = 1;

/// What we wait for most of the time.
pub(super) const ANSWER: &str = "waiting for the gRPC answer";

/// A peer that has not answered by then never will.
const FRAMES_MAX: u32 = 256;
const PINGS_MAX: u32 = 32;
const SETTINGS_MAX: u32 = 16;

/// How the call ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// gRPC's status.
    pub status: u32,
    /// What the server said about it.
    pub message: String,
    /// What the service said; `None`: nothing.
    pub serving: Option<Status>,
}

/// What has come of the answer.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Not even the peer's settings.
    Opening,
    /// Its settings.
    Settings,
    /// The answer's header. Messages follow, and the trailers.
    Header,
}

pub(super) struct Conversation {
    stage: Stage,
    /// What came and is not a whole frame yet: less than one.
    pending: Vec<u8>,
    /// What shall be sent.
    reply: Vec<u8>,
    unpacker: Unpacker,
    /// A header block that is not whole, and whether its stream ends with it.
    block: Option<(Vec<u8>, bool)>,
    blocks_size: usize,
    message: Vec<u8>,
    goaway: Option<GrpcTrouble>,
    frames: u32,
    pings: u32,
    settings: u32,
}

impl Conversation {
    pub fn new() -> Conversation {
        Conversation {
            stage: Stage::Opening,
            pending: Vec::new(),
            reply: Vec::new(),
            unpacker: Unpacker::new(),
            block: None,
            blocks_size: 0,
            message: Vec::new(),
            goaway: None,
            frames: 0,
            pings: 0,
            settings: 0,
        }
    }

    /// Takes what came; gives the answer once it is whole.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Answer>, GrpcTrouble> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        if self.stage == Stage::Opening {
            opening::check(rest)?;
        }
        while let Some((frame, after)) = frame::take(rest)? {
            if let Some(answer) = self.frame(&frame)? {
                return Ok(Some(answer));
            }
            rest = after;
        }
        let used = pending.len() - rest.len();
        self.pending = pending;
        self.pending.drain(..used);
        Ok(None)
    }

    /// Takes what shall be sent.
    pub fn reply(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply)
    }

    /// What we wait for.
    pub fn waiting(&self) -> &'static str {
        match self.stage {
            Stage::Opening => "waiting for the HTTP/2 settings",
            Stage::Settings => ANSWER,
            Stage::Header => "waiting for the end of the gRPC answer",
        }
    }

    /// What is wrong when the peer closes now; `None`: no more than that.
    pub fn closed(&mut self) -> Option<GrpcTrouble> {
        let halfway = |what: &str| Some(GrpcTrouble::Http2(format!("closed in the middle of {what}")));
        match (&self.stage, self.pending.is_empty()) {
            (Stage::Opening, true) => None,
            (Stage::Opening, false) => Some(opening::cut_off(&self.pending)),
            _ if self.goaway.is_some() => self.goaway.take(),
            (_, false) => halfway("a frame"),
            _ if self.block.is_some() => halfway("a header block"),
            (Stage::Header, true) => halfway("the gRPC answer"),
            (Stage::Settings, true) => None,
        }
    }

    /// Why the peer stopped answering, if it said so.
    pub fn gone_away(&mut self) -> Option<GrpcTrouble> {
        self.goaway.take()
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<Option<Answer>, GrpcTrouble> {
        let kind = frame::name(frame.kind);
        self.frames += 1;
        if self.frames > FRAMES_MAX {
            return Err(GrpcTrouble::Http2(format!("more than {FRAMES_MAX} frames and no answer")));
        }
        if self.block.is_some() && frame.kind != frame::CONTINUATION {
            return broken(format!("a {kind} frame in the middle of a header block"));
        }
        if self.stage == Stage::Opening && !matches!(frame.kind, frame::SETTINGS | frame::GOAWAY) {
            return broken(format!("the first frame is {kind}, not SETTINGS"));
        }
        match frame.kind {
            frame::SETTINGS | frame::PING | frame::GOAWAY if frame.stream != 0 => {
                return broken(format!("{kind} on stream {}", frame.stream));
            }
            frame::SETTINGS => self.settings(frame)?,
            frame::PING => self.ping(frame)?,
            frame::GOAWAY => self.goaway(frame)?,
            frame::WINDOW_UPDATE => window_update(frame)?,
            frame::PUSH_PROMISE => return broken("PUSH_PROMISE, though push is switched off"),
            frame::DATA | frame::HEADERS | frame::RST_STREAM | frame::CONTINUATION if frame.stream != STREAM => {
                return broken(format!("{kind} on stream {}, which nobody has opened", frame.stream));
            }
            frame::DATA => return self.data(frame),
            frame::HEADERS => return self.headers(frame),
            frame::CONTINUATION => return self.continuation(frame),
            frame::RST_STREAM => {
                let code = frame.payload.try_into().map(u32::from_be_bytes);
                return Err(code.map_or_else(|_| wrong_length(frame), GrpcTrouble::Reset));
            }
            frame::PRIORITY if frame.payload.len() != 5 => return Err(wrong_length(frame)),
            // Of PRIORITY nothing comes, and types that we don't know are for others.
            _ => {}
        }
        Ok(None)
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), GrpcTrouble> {
        self.settings += 1;
        if self.settings > SETTINGS_MAX {
            return broken(format!("more than {SETTINGS_MAX} SETTINGS and no answer"));
        }
        if frame.flags & frame::ACK != 0 {
            return match (&self.stage, frame.payload) {
                (Stage::Opening, _) => broken("the first frame is an answer to SETTINGS, not SETTINGS"),
                (_, []) => Ok(()),
                _ => Err(wrong_length(frame)),
            };
        }
        if !frame.payload.len().is_multiple_of(6) {
            return Err(wrong_length(frame));
        }
        // Whatever they are: our request is sent, it is small, and there will be no other.
        frame::put(&mut self.reply, frame::SETTINGS, frame::ACK, 0, &[]);
        if self.stage == Stage::Opening {
            self.stage = Stage::Settings;
        }
        Ok(())
    }

    fn ping(&mut self, frame: &Frame<'_>) -> Result<(), GrpcTrouble> {
        if frame.payload.len() != 8 {
            return Err(wrong_length(frame));
        }
        self.pings += 1;
        if self.pings > PINGS_MAX {
            return broken(format!("more than {PINGS_MAX} PINGs and no answer"));
        }
        if frame.flags & frame::ACK == 0 {
            frame::put(&mut self.reply, frame::PING, frame::ACK, 0, frame.payload);
        }
        Ok(())
    }

    fn goaway(&mut self, frame: &Frame<'_>) -> Result<(), GrpcTrouble> {
        let Some((&[l0, l1, l2, l3, c0, c1, c2, c3], debug)) = frame.payload.split_first_chunk::<8>() else {
            return Err(wrong_length(frame));
        };
        let last = u32::from_be_bytes([l0 & 0x7f, l1, l2, l3]);
        let trouble = GrpcTrouble::GoAway { code: u32::from_be_bytes([c0, c1, c2, c3]), debug: shown(debug) };
        if last < STREAM || self.stage == Stage::Opening {
            return Err(trouble);
        }
        // Our call may still be answered: a server that shuts down gracefully does so.
        self.goaway = Some(trouble);
        Ok(())
    }

    fn headers(&mut self, frame: &Frame<'_>) -> Result<Option<Answer>, GrpcTrouble> {
        let ends = frame.flags & frame::END_STREAM != 0;
        self.block = Some((Vec::new(), ends));
        self.block_part(frame.content()?, frame.flags)
    }

    fn continuation(&mut self, frame: &Frame<'_>) -> Result<Option<Answer>, GrpcTrouble> {
        if self.block.is_none() {
            return broken("CONTINUATION without HEADERS before it");
        }
        self.block_part(frame.payload, frame.flags)
    }

    fn block_part(&mut self, part: &[u8], flags: u8) -> Result<Option<Answer>, GrpcTrouble> {
        self.blocks_size += part.len();
        if self.blocks_size > BLOCKS_MAX {
            return broken("header blocks of more than 16 KiB");
        }
        let Some((block, ends)) = &mut self.block else { return Ok(None) };
        block.extend_from_slice(part);
        if flags & frame::END_HEADERS == 0 {
            return Ok(None);
        }
        let fields = self.unpacker.unpack(block)?;
        let ends = *ends;
        self.block = None;
        self.fields(fields, ends)
    }

    /// A header, or the trailers.
    fn fields(&mut self, fields: Fields, ends: bool) -> Result<Option<Answer>, GrpcTrouble> {
        if self.stage == Stage::Header {
            return match (ends, fields.status) {
                (true, None) => self.ended(fields).map(Some),
                (true, Some(_)) => broken("trailers with a :status"),
                (false, _) => broken("a second header"),
            };
        }
        let Some(status) = fields.status else { return broken("a header without :status") };
        if status < 200 {
            // 100 Continue and the like come before the answer.
            return if ends { broken(format!("an answer that ends with status {status}")) } else { Ok(None) };
        }
        // What says how the call ended is an answer of gRPC, with whatever :status; some leave out the type then.
        match fields.content_type.as_deref() {
            _ if fields.is_grpc() && (fields.grpc_status.is_some() || status == 200) => {}
            None if fields.grpc_status.is_some() => {}
            _ if status != 200 => return not_grpc(format!("HTTP status {status}")),
            None => return not_grpc("no content-type"),
            Some(kind) => return not_grpc(format!("content-type {kind:?}")),
        }
        if ends {
            return self.ended(fields).map(Some);
        }
        self.stage = Stage::Header;
        Ok(None)
    }

    fn data(&mut self, frame: &Frame<'_>) -> Result<Option<Answer>, GrpcTrouble> {
        if self.stage != Stage::Header {
            return broken("DATA before HEADERS");
        }
        let content = frame.content()?;
        // Of its first message the answer has the length; nothing may come after it. So no more is kept than that.
        let room = message::MESSAGE_MAX + PREFIX - self.message.len();
        self.message.extend_from_slice(content.get(..room).unwrap_or(content));
        if message::length(&self.message)?.is_some_and(|length| self.message.len() > length) || content.len() > room {
            return not_grpc("more than one message");
        }
        if frame.flags & frame::END_STREAM != 0 {
            return not_grpc("an answer that ends without a grpc-status");
        }
        Ok(None)
    }

    /// The stream has ended with these fields.
    fn ended(&mut self, fields: Fields) -> Result<Answer, GrpcTrouble> {
        let Some(status) = fields.grpc_status else {
            return not_grpc("an answer that ends without a grpc-status");
        };
        let serving = match message::length(&self.message)? {
            _ if status != 0 => None,
            None if self.message.is_empty() => None,
            Some(length) if self.message.len() == length => {
                Some(message::response(self.message.get(PREFIX..).unwrap_or_default())?)
            }
            _ => return not_grpc("an answer that ends in the middle of its message"),
        };
        Ok(Answer { status, message: fields.grpc_message, serving })
    }
}

fn window_update(frame: &Frame<'_>) -> Result<(), GrpcTrouble> {
    match *frame.payload {
        // The first bit is reserved. We send so little that no window is ever too small for it.
        [a, b, c, d] if (a & 0x7f, b, c, d) != (0, 0, 0, 0) => match frame.stream {
            0 | STREAM => Ok(()),
            other => broken(format!("WINDOW_UPDATE on stream {other}, which nobody has opened")),
        },
        [_, _, _, _] => broken("WINDOW_UPDATE by nothing"),
        _ => Err(wrong_length(frame)),
    }
}

fn wrong_length(frame: &Frame<'_>) -> GrpcTrouble {
    GrpcTrouble::Http2(format!("{} of {} bytes", frame::name(frame.kind), frame.payload.len()))
}

fn broken<T>(what: impl Into<String>) -> Result<T, GrpcTrouble> {
    Err(GrpcTrouble::Http2(what.into()))
}

fn not_grpc<T>(what: impl Into<String>) -> Result<T, GrpcTrouble> {
    Err(GrpcTrouble::NotGrpc(what.into()))
}
