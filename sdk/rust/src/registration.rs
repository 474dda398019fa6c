//! What the attribute macros expand to. Not for use by hand.

use std::marker::PhantomData;
use std::sync::Once;

/// The one value of the plugin's type that an instance of the component has.
pub trait Registered: Sync + 'static {
    fn get() -> &'static Self;
}

/// Implements a world's exports for a registered plugin. It has no values: exports are functions without a receiver.
pub struct Exported<T>(PhantomData<T>);

/// Runs before each exported call.
pub fn enter() {
    static HOOK: Once = Once::new();
    // A panic aborts the instance, and its text would be lost with it.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|info| crate::error!("{info}"))));
}
