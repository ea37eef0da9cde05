//! `log`: weir's own log, on standard error.

use super::fields::Section;
use super::values;

/// The format, level and queue of weir's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format`: `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// `level`: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: Level,
    /// `queue`: lines waiting to be written; further ones are dropped and counted. Default 1,024.
    pub queue: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: Level::default(), queue: 1024 }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: for people.
    #[default]
    Text,
    /// `json`: one object per line, for machines.
    Json,
}

/// The lowest severity that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// `error`: weir cannot do what is configured.
    Error,
    /// `warn`: weir works, but an operator should look.
    Warn,
    /// `info`: changes.
    #[default]
    Info,
    /// `debug`: reasons.
    Debug,
    /// `trace`: every step.
    Trace,
}

impl Level {
    /// The level's name, as the file and `tracing` filters spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Log {
    const LEVELS: &[(&str, Level)] = &[
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    let mut log = Log::default();
    let formats = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    section.set("format", &mut log.format, values::choice(formats));
    section.set("level", &mut log.level, values::choice(LEVELS));
    section.set("queue", &mut log.queue, values::count(1..=1_000_000));
    section.finish();
    log
}
