//! The stream key: what every protocol's request is mapped to, and all that the load balancer sees.

use alloc::sync::Arc;
use core::fmt;

/// `vhost/app/stream`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(Arc<str>);

impl StreamKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl StreamKey {
    pub fn from_rtmp(_: &str, app: &str, stream: &str) -> Result<Self, ()> {
        Ok(Self(alloc::format!("v/{app}/{stream}").into()))
    }
}
