//! Node: worker threads, child processes, modules, and how it counts processors.

use crate::programs::world::{each, need};

const WORK: &str = r#"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');
const os = require('os'), fs = require('fs'), crypto = require('crypto');
if (!isMainThread) {
  parentPort.postMessage(crypto.createHash('sha256').update(workerData).digest('hex').slice(0, 4));
} else {
  (async () => {
    const words = ['a', 'b', 'c', 'd'];
    const digests = await Promise.all(words.map((word) => new Promise((resolve, reject) => {
      const worker = new Worker(__filename, { workerData: word });
      worker.on('message', resolve); worker.on('error', reject);
    })));
    const child = execFileSync(process.execPath, ['-p', '6*7']).toString().trim();
    fs.writeFileSync('out.json', JSON.stringify({ digests, child }));
    const { sum } = await import('./own.mjs');
    const wasm = new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
    console.log(os.cpus().length > 0, sum(2, 3), wasm instanceof WebAssembly.Module, process.cwd());
  })();
}
"#;

#[test]
fn worker_threads_and_children() {
    need("node", "nodejs");
    each(|world| {
        world.write("work.js", WORK);
        world.write("own.mjs", "export const sum = (a, b) => a + b;\n");
        let seen = world.script(&["--full-proc"], "node work.js");
        assert_eq!(seen, "true 5 true /workspace\n");
        assert_eq!(world.read("out.json"), r#"{"digests":["ca97","3e23","2e7d","18ac"],"child":"42"}"#);
    });
}

/// Without the machine's `/proc/cpuinfo` Node sees none, and still runs.
#[test]
fn the_number_of_processors_is_a_matter_of_the_view_of_proc() {
    need("node", "nodejs");
    each(|world| {
        let count = "console.log(require('os').cpus().length > 0)";
        let seen = |options: &[&str]| world.script(options, &format!("node -e \"{count}\""));
        assert_eq!((seen(&["--full-proc"]).as_str(), seen(&[]).as_str()), ("true\n", "false\n"));
    });
}
