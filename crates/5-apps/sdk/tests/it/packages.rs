//! The example packages in the repository are manifests that sign and deploy as they are.

use std::{fs, path::Path};

use agentos_types::{Manifest, manifest::TrustLevel};

#[test]
fn the_python_examples_are_valid_packages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/python");
    for name in ["echo", "rogue"] {
        let folder = root.join(name);
        let text = fs::read_to_string(folder.join("agent.toml")).unwrap();
        let manifest: Manifest = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        manifest.validate().unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(manifest.name.as_str(), name);
        assert_eq!(manifest.trust_level, TrustLevel::Supervised);
        for file in manifest.files.keys() {
            assert!(folder.join(file).is_file(), "{name} lists {file}");
        }
        assert!(manifest.files.contains_key(&manifest.command[1]), "{name} runs a file of its package");
    }
}
