//! The names of all keys in the store, those of the Go proxy and our own. Knows names only, no values.

use std::fmt::Display;

/// What every key of the Go proxy, and of ours, begins with.
const PROGRAM: &str = "srs-proxy";
const SERVER: &str = "srs-proxy-server:";

/// The names of keys under one prefix.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Keys {
    /// With the colon, if there is one.
    prefix: String,
}

impl Keys {
    /// Keys are `{prefix}:{name}`; just the name without a prefix.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}:") } }
    }

    /// The same for a Cluster, where all keys of one prefix must be in one slot: a prefix without a hash tag is put
    /// into braces and so becomes one; none becomes `{srs-proxy}`.
    pub fn in_one_slot(prefix: &str) -> Self {
        let own = if prefix.is_empty() { PROGRAM } else { prefix };
        let mut spellings = [prefix.to_owned(), format!("{{{own}}}")].into_iter();
        // A prefix that begins with a closing brace is no tag even in braces.
        let tagged = spellings.find(|spelling| has_hash_tag(spelling));
        Self::new(&tagged.unwrap_or_else(|| format!("{{{PROGRAM}}}{prefix}")))
    }

    /// An origin's registration.
    pub fn server(&self, id: impl Display) -> String {
        format!("{}{SERVER}{id}", self.prefix)
    }

    /// The list of all registrations' keys.
    pub fn all_servers(&self) -> String {
        self.name("all-servers")
    }

    /// Which registration's key a stream is mapped to.
    pub fn url(&self, stream: impl Display) -> String {
        self.entry("url", stream)
    }

    /// A stream's HLS session.
    pub fn hls(&self, stream: impl Display) -> String {
        self.entry("hls", stream)
    }

    /// The HLS session with this id.
    pub fn spbhid(&self, id: impl Display) -> String {
        self.entry("spbhid", id)
    }

    /// A stream's WebRTC session.
    pub fn rtc(&self, stream: impl Display) -> String {
        self.entry("rtc", stream)
    }

    /// The WebRTC session with this ufrag.
    pub fn ufrag(&self, ufrag: impl Display) -> String {
        self.entry("ufrag", ufrag)
    }

    /// What proxies say of origins to each other.
    pub fn marks(&self) -> String {
        self.name("marks")
    }

    /// How many streams each proxy has at which origin.
    pub fn loads(&self) -> String {
        self.name("loads")
    }

    /// What a proxy that starts writes, and removes, to find out whether it may.
    pub fn probe(&self, proxy: impl Display) -> String {
        self.entry("probe", proxy)
    }

    /// The origin where a stream is published.
    pub fn publisher(&self, stream: impl Display) -> String {
        self.entry("publisher", stream)
    }

    /// Whose registration a key names; also without our prefix, as others may have written it.
    pub fn id_of<'a>(&self, server_key: &'a str) -> Option<&'a str> {
        let name = server_key.strip_prefix(self.prefix.as_str()).unwrap_or(server_key);
        name.strip_prefix(SERVER).filter(|id| !id.is_empty())
    }

    fn name(&self, name: &str) -> String {
        format!("{}{PROGRAM}-{name}", self.prefix)
    }

    fn entry(&self, kind: &str, of: impl Display) -> String {
        format!("{}{PROGRAM}-{kind}:{of}", self.prefix)
    }
}

/// Whether Redis hashes only a part of the keys that begin so: what is between the first opening brace and the first
/// closing one after it, unless that is nothing.
fn has_hash_tag(prefix: &str) -> bool {
    let tag = prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.is_some_and(|(tag, _)| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_go_proxy() {
        let keys = Keys::new("");
        let stream = "__defaultVhost__/live/vec";
        assert_eq!(keys.all_servers(), "srs-proxy-all-servers");
        assert_eq!(keys.server("a-b-1"), "srs-proxy-server:a-b-1");
        assert_eq!(keys.url(stream), "srs-proxy-url:__defaultVhost__/live/vec");
        assert_eq!(keys.hls(stream), "srs-proxy-hls:__defaultVhost__/live/vec");
        assert_eq!(keys.spbhid("3f2bbba"), "srs-proxy-spbhid:3f2bbba");
        assert_eq!(keys.rtc(stream), "srs-proxy-rtc:__defaultVhost__/live/vec");
        assert_eq!(keys.ufrag("s:c"), "srs-proxy-ufrag:s:c");
        assert_eq!(Keys::new("eu").url(stream), "eu:srs-proxy-url:__defaultVhost__/live/vec");
        assert_eq!(Keys::new("eu").all_servers(), "eu:srs-proxy-all-servers");
    }

    #[test]
    fn a_server_key_is_read_with_our_prefix_and_without_one() {
        let keys = Keys::new("eu");
        assert_eq!(keys.id_of("eu:srs-proxy-server:a-b-1"), Some("a-b-1"));
        assert_eq!(keys.id_of("srs-proxy-server:a-b-1"), Some("a-b-1"));
        assert_eq!(Keys::new("").id_of("srs-proxy-server:a-b-1"), Some("a-b-1"));
        for other in ["us:srs-proxy-server:a", "srs-proxy-url:a", "srs-proxy-server:", "eu:", ""] {
            assert_eq!(keys.id_of(other), None, "{other}");
        }
    }

    #[test]
    fn in_a_cluster_all_keys_have_one_hash_tag() {
        for (prefix, all) in [
            ("", "{srs-proxy}:srs-proxy-all-servers"),
            ("eu", "{eu}:srs-proxy-all-servers"),
            ("{eu}", "{eu}:srs-proxy-all-servers"),
            ("a{eu}b", "a{eu}b:srs-proxy-all-servers"),
            ("{}", "{{}}:srs-proxy-all-servers"),
            ("a{b", "{a{b}:srs-proxy-all-servers"),
            ("}a", "{srs-proxy}}a:srs-proxy-all-servers"),
        ] {
            assert_eq!(Keys::in_one_slot(prefix).all_servers(), all, "{prefix}");
        }
    }
}
