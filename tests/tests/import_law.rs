//! This workspace obeys the import law of the house.

use std::path::Path;

use rustorium_tests::law::{Tree, judge};

#[test]
fn the_workspace_obeys_the_import_law() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let tree = Tree::read(root).unwrap();
    assert_eq!(tree.crates.len(), 7, "a crate was added or lost: tell the law");
    let breaches: Vec<String> = judge(&tree).iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "against the law:\n{}", breaches.join("\n"));
}
