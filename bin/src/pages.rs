//! The pages that are served where no directory of files is set. Built in; decides nothing.

use srs_proxy_core::http::files::Page;

/// Where each page is, below the server's root, and its bytes.
const PAGES: [(&str, &[u8]); 7] = [
    ("index.html", include_bytes!("../pages/index.html")),
    ("player.css", include_bytes!("../pages/player.css")),
    ("player.js", include_bytes!("../pages/player.js")),
    ("favicon.svg", include_bytes!("../pages/favicon.svg")),
    ("vendor/mpegts.js", include_bytes!("../pages/vendor/mpegts.js")),
    ("vendor/hls.light.min.js", include_bytes!("../pages/vendor/hls.light.min.js")),
    ("vendor/LICENSES.txt", include_bytes!("../pages/vendor/LICENSES.txt")),
];

/// All pages.
pub(crate) fn pages() -> Vec<Page> {
    PAGES.iter().map(|(path, body)| Page::new(path, body)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use srs_proxy_core::http::files::{content_type, locate};

    fn page(path: &str) -> &'static str {
        let (_, body) = PAGES.iter().find(|(known, _)| *known == path).expect("a page");
        std::str::from_utf8(body).expect("text")
    }

    #[test]
    fn every_page_is_found_where_it_is_and_has_a_type() {
        for page in pages() {
            assert_eq!(locate(&format!("/{}", page.path())).as_deref(), Some(page.path()));
            assert_ne!(content_type(page.path()), "application/octet-stream", "{}", page.path());
        }
        assert_eq!(locate("/").as_deref(), Some("index.html"));
    }

    #[test]
    fn the_player_needs_nothing_from_elsewhere() {
        let html = page("index.html");
        let in_html = html.split('"').zip(html.split('"').skip(1));
        let linked = in_html.filter(|(before, _)| before.ends_with("src=") || before.ends_with("href="));
        let loaded = page("player.js").split("load('").skip(1).filter_map(|rest| rest.split('\'').next());
        let named: Vec<_> = linked.map(|(_, path)| path).chain(loaded).collect();
        assert_eq!(named.len(), 7, "{named:?}");
        for path in named {
            assert!(PAGES.iter().any(|(known, _)| *known == path), "{path}");
        }
    }
}
