//! What a round does: a pure function of the campaign's seed and the round's number.

use std::fmt;
use std::time::Duration;

/// xorshift64*, started through splitmix64 so that neighbouring numbers give unlike rounds.
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64, number: u64) -> Random {
        let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((z ^ (z >> 31)) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// What is killed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The supervisor in the foreground, while it starts.
    Start,
    /// The supervisor in the background, while its caller waits for it.
    Detach,
    /// That caller.
    Caller,
    /// The supervisor of a VM that runs.
    Run,
    /// The same while the console is rotated all the time.
    Rotation,
    /// The supervisor while mcp-stop waits for it.
    Stop,
    /// The same, with a guest that may ignore the power button.
    StopFirm,
    /// mcp-stop.
    Stopper,
    /// mcp-stop at the stop of a VM that has no supervisor.
    StopperAlone,
    /// The supervisor, asked to stop while it starts.
    StopStart,
    /// QEMU and the supervisor.
    Both,
    /// QEMU, and the supervisor when it restarts it.
    Restart,
}

impl Kind {
    /// Start and rotation, where most can go wrong, twice.
    const ALL: [Kind; 16] = [
        Kind::Start,
        Kind::Start,
        Kind::Start,
        Kind::Detach,
        Kind::Caller,
        Kind::Run,
        Kind::Rotation,
        Kind::Rotation,
        Kind::Rotation,
        Kind::Stop,
        Kind::StopFirm,
        Kind::Stopper,
        Kind::StopperAlone,
        Kind::StopStart,
        Kind::Both,
        Kind::Restart,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Detach => "detached start",
            Kind::Caller => "caller of a detached start",
            Kind::Run => "run",
            Kind::Rotation => "rotation",
            Kind::Stop => "stop",
            Kind::StopFirm => "firm stop",
            Kind::Stopper => "mcp-stop",
            Kind::StopperAlone => "mcp-stop without supervisor",
            Kind::StopStart => "stop of a start",
            Kind::Both => "QEMU too",
            Kind::Restart => "restart",
        }
    }
}

/// A call that puts things right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Status,
    Run,
    Stop,
}

/// One round.
#[derive(Debug, Clone)]
pub struct Plan {
    pub number: u64,
    pub kind: Kind,
    /// From the call to the kill.
    pub moment: Duration,
    /// Another one, up to 100 ms, for whatever the kind does with it.
    pub second: Duration,
    /// What is called after the kill, before the last stop.
    pub calls: Vec<Call>,
}

impl Plan {
    pub fn of(seed: u64, number: u64) -> Plan {
        let mut random = Random::of(seed, number);
        // Every kind comes in any sixteen rounds in a row.
        let kind = Kind::ALL[((number + seed) % Kind::ALL.len() as u64) as usize];
        let moment = Duration::from_micros(random.below(400_000));
        let second = Duration::from_micros(random.below(100_000));
        let calls = match random.below(5) {
            0 => vec![Call::Status, Call::Run],
            1 => vec![Call::Run],
            2 => vec![Call::Stop],
            3 => vec![Call::Status],
            _ => vec![Call::Run, Call::Status],
        };
        Plan { number, kind, moment, second, calls }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.calls.iter().map(|c| format!("{c:?}").to_lowercase()).collect();
        write!(f, "{} killed at {:?}, then {}", self.kind.name(), self.moment, calls.join(" "))
    }
}
