//! Compares what should be there with what is, and makes it so.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A file that only the generator writes.
pub struct Generated {
    /// Below the root of the repository.
    pub path: String,
    pub text: String,
}

impl Generated {
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        // One newline at the end, whatever the source of the text does.
        text.truncate(text.trim_end().len());
        text.push('\n');
        Self { path: path.into(), text }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Missing,
    Differs,
    /// An error page whose code no longer exists.
    Orphan,
}

/// What is stale, in the order of the list, then orphans.
pub fn compare(root: &Path, generated: &[Generated]) -> Result<Vec<(String, State)>> {
    let mut stale = Vec::new();
    for file in generated {
        let state = match fs::read_to_string(root.join(&file.path)) {
            Ok(text) if text == file.text => continue,
            Ok(_) => State::Differs,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => State::Missing,
            Err(source) => return Err(source).with_context(|| file.path.clone()),
        };
        stale.push((file.path.clone(), state));
    }
    let Ok(entries) = fs::read_dir(root.join(crate::errors::FOLDER)) else { return Ok(stale) };
    for entry in entries {
        let path = format!("{}/{}", crate::errors::FOLDER, entry?.file_name().to_string_lossy());
        if !generated.iter().any(|file| file.path == path) {
            stale.push((path, State::Orphan));
        }
    }
    Ok(stale)
}

pub fn write(root: &Path, generated: &[Generated], stale: &[(String, State)]) -> Result<()> {
    for (path, state) in stale {
        let full = root.join(path);
        match generated.iter().find(|file| file.path == *path) {
            Some(file) => {
                fs::create_dir_all(full.parent().context("a generated file has a directory")?)?;
                fs::write(&full, &file.text)
            }
            None => fs::remove_file(&full),
        }
        .with_context(|| format!("{path} ({state:?})"))?;
    }
    Ok(())
}
