//! `log`: weir's own log, on standard error.

/// How and how much weir logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `format`: `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// `level`: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: for people.
    #[default]
    Text,
    /// `json`: one object a line, for machines.
    Json,
}

/// The least important line that is still written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// `error`: weir cannot do what it was told.
    Error,
    /// `warn`: it does, but somebody should look.
    Warn,
    /// `info`: what changed.
    #[default]
    Info,
    /// `debug`: why.
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
