//! A Java virtual machine: it reserves address space, starts many threads, reads its settings below `/etc`.

use crate::programs::world::{each, need};

const WORK: &str = r#"
import java.util.stream.*;
public class Work {
    public static void main(String[] words) throws Exception {
        long sum = LongStream.rangeClosed(1, 1000).parallel().sum();
        Thread[] threads = new Thread[8];
        int[] seen = new int[8];
        for (int i = 0; i < 8; i++) { int n = i; threads[i] = new Thread(() -> seen[n] = n * n); threads[i].start(); }
        for (Thread thread : threads) thread.join();
        java.nio.file.Files.writeString(java.nio.file.Path.of("out"), IntStream.of(seen).sum() + "\n");
        var digest = java.security.MessageDigest.getInstance("SHA-256").digest("a".getBytes());
        System.out.println(sum + " " + (digest[0] & 0xff) + " " + Runtime.getRuntime().availableProcessors());
    }
}
"#;

#[test]
fn a_virtual_machine_starts_counts_and_computes() {
    need("java", "default-jdk-headless");
    each(|world| {
        world.write("Work.java", WORK);
        // The share of CPU time is what it takes for its number of processors.
        let seen = world.script(&["--full-proc", "--cpu", "1"], "java -Xshare:auto Work.java 2>/dev/null");
        assert_eq!(seen, "500500 202 1\n");
        assert_eq!(world.read("out"), "140\n");
    });
}
