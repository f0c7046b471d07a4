//! The fuzz targets' bodies over their committed corpora: what was found once stays found, without a fuzzer.

use srs_proxy_tests::fuzz::TARGETS;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_committed_input_passes() {
    for (target, body) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            let bytes = fs::read(&file).expect("a readable file");
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&bytes))) {
                eprintln!("{target} failed with {}", file.display());
                resume_unwind(panic);
            }
        }
    }
}

#[test]
fn every_target_is_one_of_the_fuzzer_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    for (target, _) in TARGETS {
        assert!(folder.join(format!("{target}.rs")).is_file(), "{target}");
    }
    assert_eq!(fs::read_dir(folder).expect("the folder").count(), TARGETS.len());
}
