//! Reading the tree that the law is judged on from a workspace.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use cargo_metadata::MetadataCommand;

use super::{Crate, Dependency, Tree};

/// Folders of a crate that hold its code.
const SOURCES: &[&str] = &["src", "tests", "benches", "examples", "fuzz", "build.rs"];

impl Tree {
    /// Reads the workspace whose root is `root`. Asks no network.
    pub fn read(root: &Path) -> anyhow::Result<Tree> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .other_options(["--offline".to_owned()])
            .exec()
            .context("cargo metadata")?;
        let mut tree = Tree::default();
        for package in &metadata.packages {
            let manifest = package.manifest_path.as_std_path();
            let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
            let folder = folder.and_then(Path::to_str).with_context(|| format!("{} lies elsewhere", package.name))?;
            let dependencies = package.dependencies.iter();
            let dependency =
                |d: &cargo_metadata::Dependency| Dependency { name: d.name.clone(), renamed: d.rename.is_some() };
            tree.crates.push(Crate {
                name: package.name.to_string(),
                folder: folder.to_owned(),
                dependencies: dependencies.map(dependency).collect(),
                workspace_lints: fs::read_to_string(manifest)?.contains("[lints]\nworkspace = true"),
            });
            for source in SOURCES {
                read(root, &root.join(folder).join(source), &mut tree.files)?;
            }
        }
        ensure!(!tree.crates.is_empty() && !tree.files.is_empty(), "nothing to judge in {}", root.display());
        Ok(tree)
    }
}

/// Adds the Rust files at or below `path`, if it exists.
fn read(root: &Path, path: &Path, files: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            read(root, &entry?.path(), files)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = fs::read_to_string(path).with_context(|| name.clone())?;
        files.push((name, text));
    }
    Ok(())
}
