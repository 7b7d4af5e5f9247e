//! Spans and events with a level that is known at run time only: `tracing` wants a constant.

/// The same event at a level.
macro_rules! event_at {
    ($level:expr, $($rest:tt)*) => {
        match $level {
            tracing::Level::ERROR => tracing::event!(tracing::Level::ERROR, $($rest)*),
            tracing::Level::WARN => tracing::event!(tracing::Level::WARN, $($rest)*),
            tracing::Level::INFO => tracing::event!(tracing::Level::INFO, $($rest)*),
            tracing::Level::DEBUG => tracing::event!(tracing::Level::DEBUG, $($rest)*),
            tracing::Level::TRACE => tracing::event!(tracing::Level::TRACE, $($rest)*),
        }
    };
}

/// The same span at a level.
macro_rules! span_at {
    ($level:expr, $($rest:tt)*) => {
        match $level {
            tracing::Level::ERROR => tracing::span!(tracing::Level::ERROR, $($rest)*),
            tracing::Level::WARN => tracing::span!(tracing::Level::WARN, $($rest)*),
            tracing::Level::INFO => tracing::span!(tracing::Level::INFO, $($rest)*),
            tracing::Level::DEBUG => tracing::span!(tracing::Level::DEBUG, $($rest)*),
            tracing::Level::TRACE => tracing::span!(tracing::Level::TRACE, $($rest)*),
        }
    };
}

/// The constructor and the level of a default hook.
macro_rules! with_level {
    ($name:ident, $level:ident) => {
        impl $name {
            #[doc = concat!("At the level ", stringify!($level), ".")]
            pub const fn new() -> Self {
                Self {
                    level: Level::$level,
                }
            }

            /// At another level.
            #[must_use]
            pub const fn level(mut self, level: Level) -> Self {
                self.level = level;
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

/// Whether anybody listens to this level.
pub(super) fn is_heard(level: tracing::Level) -> bool {
    level <= tracing::level_filters::LevelFilter::current()
}
