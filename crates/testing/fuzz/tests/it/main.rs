//! The corpus, and mutations of it by seed: a few seconds of what the fuzzer does for hours, the same each time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod mutate;
mod seeds;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agentos_fuzz::{TARGETS, Target};

use mutate::Mutator;

/// Mutations of each target; two to three seconds in all.
const MUTATIONS: u64 = 2_000;
/// An input of a few hundred bytes is read in microseconds; a reader that needs this long for one has a loop without a
/// bound. Generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Inputs of one target, in the order of their names.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

fn run(target: &Target, what: &str, input: &[u8]) {
    let begun = Instant::now();
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        panic!("{} breaks its promise with {what}: {:?}", target.name, String::from_utf8_lossy(input));
    }
    assert!(begun.elapsed() < PATIENCE, "{}: {what} took {:?}", target.name, begun.elapsed());
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 3, "{} has a corpus", target.name);
        for (name, input) in inputs {
            run(target, &name, &input);
        }
    }
}

#[test]
fn mutations_of_the_corpus_keep_the_promises() {
    for target in TARGETS {
        let inputs = inputs(target);
        // Files are slow to make, and the segment needs one for each input.
        let mutations = if target.name == "segment" { MUTATIONS / 10 } else { MUTATIONS };
        for seed in 0..mutations {
            let mut mutator = Mutator::new(seed);
            let input = mutator.mutate(&inputs);
            run(target, &format!("seed {seed}"), &input);
        }
    }
}

/// The folders are those of the targets, and the dictionary is one of the fuzzer's form.
#[test]
fn corpus_and_dictionary_fit_the_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let dictionary = include_str!("../../dictionary.txt");
    let words = dictionary.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(words.clone().count() > 50);
    for word in words {
        assert!(word.len() > 2 && word.starts_with('"') && word.ends_with('"'), "{word}");
    }
}
