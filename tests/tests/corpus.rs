//! What the fuzz targets found worth keeping, through the same functions.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use milter_tests::fuzz::TARGETS;

/// `tests/fuzz/corpus/TARGET/*`; a target without any is a failure.
#[test]
fn what_the_fuzz_targets_found_still_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut inputs = 0;
        for file in files {
            let file = file.expect("a file's name").path();
            let bytes = fs::read(&file).expect("readable");
            let run = catch_unwind(|| target(&bytes));
            assert!(run.is_ok(), "{} fails as said above", file.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
        println!("{name}: {inputs} inputs");
    }
}
