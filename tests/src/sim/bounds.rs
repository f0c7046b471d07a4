//! What the driver of a simulated world holds its machine to. Asserts nothing itself.

/// Bounds that the driver holds the machine to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most unconsumed input of a leg, in bytes, beside one read.
    pub kept: usize,
    /// The most a leg's queue may hold above the high-water mark, in bytes: what one read and a few answers
    /// can become.
    pub above_high_water: usize,
    /// The most legs at a time.
    pub legs: usize,
    /// The most unanswered questions at a time.
    pub tickets: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { kept: 64 * 1024, above_high_water: 256 * 1024, legs: 2, tickets: 1 }
    }
}
