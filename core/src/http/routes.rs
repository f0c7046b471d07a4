//! What the proxy's own API has to offer, and where. Reads no body and sends nothing.

/// Which of the proxy's HTTP servers it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// `PROXY_SYSTEM_API`: registration of origins and the proxy's own API.
    System,
    /// `PROXY_HTTP_API`: what clients and people ask an origin's API.
    HttpApi,
    /// `PROXY_HTTP_SERVER`: streams and files.
    Http,
}

/// A resource of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resource {
    /// The proxy's version; a health check as well.
    Versions,
    /// Where origins register.
    Register,
    /// The origins, their health and their streams.
    Origins,
}

impl Resource {
    pub(super) fn find(server: Server, path: &str) -> Option<Self> {
        match (path, server) {
            ("/api/v1/versions", _) => Some(Self::Versions),
            ("/api/v1/srs/register", Server::System) => Some(Self::Register),
            ("/api/v1/origins", Server::System) => Some(Self::Origins),
            _ => None,
        }
    }

    /// The methods it takes, as `Allow` lists them.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            Self::Versions | Self::Origins => "GET, HEAD, OPTIONS",
            Self::Register => "POST, OPTIONS",
        }
    }

    pub(super) fn allows(self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }

    /// Whether it asks for the token, where one is set.
    pub(super) const fn is_guarded(self) -> bool {
        matches!(self, Self::Register | Self::Origins)
    }

    /// Whether pages of any site may read it: a console may, but no page shall register an origin.
    pub(super) const fn is_shared(self) -> bool {
        matches!(self, Self::Versions | Self::Origins)
    }
}
