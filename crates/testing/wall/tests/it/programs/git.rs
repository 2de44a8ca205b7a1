//! git: a repository is made, written to, cloned, branched, packed; hooks run.

use crate::programs::world::{each, need};

#[test]
fn repositories_are_made_committed_to_and_cloned() {
    need("git", "git");
    each(|world| {
        world.write(
            "story.sh",
            r#"
git init -q -b main one
cd one
git config user.name Somebody; git config user.email somebody@example.org
printf '#!/bin/sh\necho hooked > ../hooked\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit
seq 1 5000 > numbers; mkdir -p deep/er; echo text > deep/er/file; ln -s deep/er/file link
git add -A; git commit -qm 'The first'
git checkout -qb other; echo more >> numbers; git commit -qam 'The second'
git checkout -q main; git merge -q --no-edit other
cd ..
git clone -q --no-hardlinks one two
git clone -q "file://$PWD/one" three
cd two; git log --format=%s; git fsck --no-progress; git gc -q; git stash list; git diff --stat HEAD~1 | tail -1
readlink link; git status --porcelain
"#,
        );
        let seen = world.script(&[], "sh -eu story.sh");
        assert!(seen.starts_with("The second\nThe first\n"), "{seen}");
        assert!(seen.ends_with("1 file changed, 1 insertion(+)\ndeep/er/file\n"), "{seen}");
        assert_eq!(world.read("hooked"), "hooked\n");
        assert_eq!(world.read("three/deep/er/file"), "text\n");
    });
}
