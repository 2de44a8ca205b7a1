//! Python: a virtual environment, a package that pip installs into it, processes and threads.

use crate::programs::world::{each, need};

/// Builds a wheel by hand, so that no network and no build tool is needed.
const WHEEL: &str = r#"
import zipfile
name, version = "greeting", "1.0"
info = f"{name}-{version}.dist-info"
files = {
    f"{name}/__init__.py": "def greet(who):\n    return f'hello {who}'\n\ndef main():\n    print(greet('script'))\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
}
files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
with zipfile.ZipFile(f"{name}-{version}-py3-none-any.whl", "w") as wheel:
    for path, text in files.items():
        wheel.writestr(path, text)
"#;

/// Pools of processes need semaphores in shared memory, pipes between children, and signals.
const WORK: &str = r#"
import concurrent.futures, ctypes, greeting, hashlib, json, multiprocessing, sqlite3, ssl, subprocess, sys, tempfile

def square(number):
    return number * number

if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        squares = list(pool.map(square, range(10)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda text: hashlib.sha256(text.encode()).hexdigest()[:4], "abc"))
    with sqlite3.connect("work.db") as database:
        database.execute("create table t (n)")
        database.executemany("insert into t values (?)", [(n,) for n in squares])
        total = database.execute("select sum(n) from t").fetchone()[0]
    child = subprocess.run([sys.executable, "-c", "import greeting; print(greeting.greet('child'))"],
                           capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryFile() as scratch:
        scratch.write(b"x" * 4096)
    roots = len(ssl.create_default_context().get_ca_certs()) > 0 or ssl.get_default_verify_paths().capath is not None
    print(json.dumps([greeting.greet("sandbox"), total, digests[0], child, ctypes.CDLL(None).getpid() > 0, roots]))
"#;

#[test]
fn a_package_that_pip_installed_is_used_by_processes_and_threads() {
    need("python3", "python3 python3-venv");
    each(|world| {
        world.write("wheel.py", WHEEL);
        world.write("work.py", WORK);
        let seen = world.script(
            &[],
            "/usr/bin/python3 wheel.py
            /usr/bin/python3 -m venv own
            own/bin/pip install --quiet --no-index --disable-pip-version-check ./greeting-1.0-py3-none-any.whl
            own/bin/greet
            own/bin/python work.py",
        );
        assert_eq!(seen, "hello script\n[\"hello sandbox\", 285, \"ca97\", \"hello child\", true, true]\n");
    });
}
