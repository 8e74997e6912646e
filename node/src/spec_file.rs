//! Chain specs by name: a preset, or a file.

use std::fs::File;
use std::io::Read as _;

use anyhow::Context as _;
use rustorium_chain_spec::{ChainSpec, SPEC_BYTES_MAX};

use crate::exit::{Exit, OrExit as _};

/// The spec that `--chain` names. A preset comes before a file of the same name, which `./` in front selects.
pub(crate) fn load(chain: &str) -> anyhow::Result<ChainSpec> {
    if let Some(preset) = ChainSpec::preset(chain) {
        return Ok(preset);
    }
    let missing = || {
        let presets = ChainSpec::PRESETS.join(", ");
        format!("--chain {chain}: not a preset ({presets}), and not a file that can be read")
    };
    let file = File::open(chain).with_context(missing).or_exit(Exit::NoInput)?;
    let mut bytes = Vec::new();
    // One byte above the limit, for the parser to refuse.
    file.take(SPEC_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(missing).or_exit(Exit::NoInput)?;
    ChainSpec::parse(&bytes).with_context(|| format!("--chain {chain}")).or_exit(Exit::BadData)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::report;

    #[test]
    fn a_chain_is_a_preset_or_a_file() {
        assert_eq!(load("dev").unwrap().id(), "dev");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spec.json");
        let chain = path.to_str().unwrap();
        let error = load(chain).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NoInput);
        assert!(report(&error).contains("not a preset (dev), and not a file that can be read: "), "{error:#}");
        std::fs::write(&path, r#"{"name": "T", "id": "t", "genesis": {"raw": {"top": {}}}}"#).unwrap();
        assert_eq!(load(chain).unwrap().id(), "t");
        std::fs::write(&path, r#"{"name": "T", "id": "t", "genesis": {"runtime": {}}}"#).unwrap();
        let error = load(chain).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::BadData);
        assert!(report(&error).contains("spec.json: the spec has no raw genesis"), "{error:#}");
    }
}
