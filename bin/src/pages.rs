//! The pages that are served where no directory of files is set. Built in; decides nothing.

use srs_proxy_core::http::files::Page;

/// Where each page is, below the server's root, and its bytes.
const PAGES: [(&str, &[u8]); 11] = [
    ("index.html", include_bytes!("../pages/index.html")),
    ("whip.html", include_bytes!("../pages/whip.html")),
    ("whep.html", include_bytes!("../pages/whep.html")),
    ("page.js", include_bytes!("../pages/page.js")),
    ("rtc.js", include_bytes!("../pages/rtc.js")),
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
    fn the_pages_need_nothing_from_elsewhere() {
        let quoted = |text: &'static str, before: &str| -> Vec<_> {
            text.split(before).skip(1).filter_map(|rest| rest.split(['"', '\'']).next()).collect()
        };
        let html = ["index.html", "whip.html", "whep.html"].map(page).into_iter();
        let linked = html.flat_map(|html| [quoted(html, "src=\""), quoted(html, "href=\"")].concat());
        let js = ["player.js", "rtc.js"].map(page).into_iter();
        let loaded = js.flat_map(|js| [quoted(js, "load('"), quoted(js, "from './")].concat());
        let named: Vec<_> = linked.chain(loaded).collect();
        for (path, _) in PAGES.iter().filter(|(path, _)| *path != "index.html") {
            assert!(named.contains(path), "nothing leads to {path}");
        }
        for path in named {
            assert!(PAGES.iter().any(|(known, _)| *known == path), "{path}");
        }
    }
}
