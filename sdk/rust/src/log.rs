//! Log lines, written into the agent's log under the plugin's name.

pub use crate::base::bindings::witlet::base::log::Level;

/// Used by the macros [`error!`](crate::error), [`warn!`](crate::warn), [`info!`](crate::info) and [`debug!`](crate::debug).
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::base::bindings::witlet::base::log::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($arg)*)) };
}

#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($arg)*)) };
}

#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($arg)*)) };
}

#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($arg)*)) };
}
