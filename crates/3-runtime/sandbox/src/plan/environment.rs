//! The environment of the program: the usual variables, and hints for run-times that would otherwise count the processors
//! and the memory of the whole machine, of which the sandbox has only a part.

use std::collections::BTreeMap;

use super::{
    Plan, TMP, USER, WORKSPACE,
    etc::{AUTHORITY, BUNDLE},
};

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Thread pools of numerical libraries, Rayon and Tokio, Go's and Python's idea of the number of processors.
const THREAD_VARIABLES: [&str; 7] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "GOMAXPROCS",
    "PYTHON_CPU_COUNT",
];
/// Everything that reads the whole bundle: OpenSSL and what is built on it, Python's requests and pip, curl, git.
const BUNDLE_VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];
const MIB: u64 = 1 << 20;

impl Plan {
    /// The plan's own variables under those that were asked for.
    pub(super) fn full_environment(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        set("PATH", PATH.to_owned());
        set("HOME", WORKSPACE.to_owned());
        set("TMPDIR", TMP.to_owned());
        set("LANG", "C.UTF-8".to_owned());
        set("USER", USER.to_owned());
        set("LOGNAME", USER.to_owned());
        set("SHELL", "/bin/sh".to_owned());
        if let Some(processors) = self.processors() {
            THREAD_VARIABLES.iter().for_each(|name| set(name, processors.to_string()));
        }
        if let Some(bytes) = self.limits.memory_bytes {
            // What is not heap needs room too: code, stacks, buffers.
            set("NODE_OPTIONS", format!("--max-old-space-size={}", part(bytes, 75).max(MIB) / MIB));
            set("GOMEMLIMIT", format!("{}MiB", part(bytes, 90).max(MIB) / MIB));
            // Each thread would reserve an arena of 64 MiB.
            set("MALLOC_ARENA_MAX", "2".to_owned());
        }
        if let Some(options) = self.java_options() {
            set("JAVA_TOOL_OPTIONS", options);
        }
        if self.authority.is_some() {
            BUNDLE_VARIABLES.iter().for_each(|name| set(name, BUNDLE.to_owned()));
            set("NODE_EXTRA_CA_CERTS", AUTHORITY.to_owned());
        }
        all.extend(self.environment.clone());
        all
    }

    /// Whole processors that the share of CPU time is worth.
    pub(super) fn processors(&self) -> Option<u64> {
        self.limits.cpu_percent.map(|percent| percent.div_ceil(100).max(1))
    }

    /// The JVM asks cgroups, which it cannot see inside.
    fn java_options(&self) -> Option<String> {
        let processors = self.processors().map(|count| format!("-XX:ActiveProcessorCount={count}"));
        let memory = self.limits.memory_bytes.map(|bytes| format!("-XX:MaxRAM={bytes} -XX:MaxRAMPercentage=60"));
        let options: Vec<_> = processors.into_iter().chain(memory).collect();
        Some(options.join(" ")).filter(|options| !options.is_empty())
    }
}

fn part(bytes: u64, percent: u64) -> u64 {
    bytes / 100 * percent
}
