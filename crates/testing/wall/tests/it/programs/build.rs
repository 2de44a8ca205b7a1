//! A compiler and make: many short processes, programs that were just written and are run at once.

use crate::programs::world::{each, need};

const MAKEFILE: &str = "\
OBJECTS = main.o one.o two.o
CFLAGS = -O1 -pipe
answer: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS) -lm -lpthread
check: answer
\t./answer
";
const MAIN: &str = r#"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
int one(int), two(int);
static void *work(void *sum) { *(int *)sum = one(1) + two(2); return 0; }
int main(void) {
    pthread_t thread; int sum = 0;
    if (pthread_create(&thread, 0, work, &sum) || pthread_join(thread, 0)) return 1;
    printf("%d %.0f\n", sum, sqrt(1764)); return 0;
}
"#;

#[test]
fn make_compiles_links_and_runs() {
    need("gcc", "gcc libc6-dev make");
    need("make", "make");
    each(|world| {
        world.write("Makefile", MAKEFILE);
        world.write("main.c", MAIN);
        world.write("one.c", "int one(int n) { return n + 20; }\n");
        world.write("two.c", "int two(int n) { return n * 10; }\n");
        let seen = world.script(&[], "make --silent -j3 check");
        assert_eq!(seen, "41 42\n");
        assert_eq!(world.script(&[], "make -q answer && echo nothing to do"), "nothing to do\n");
    });
}
