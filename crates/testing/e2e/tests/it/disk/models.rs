//! Calls of models on a disk that is full.

use agentos_kit::{Act, ModelServer, Package, TestOs, Volume, eventually, until};

use crate::{
    models::{
        outage::{answers_again, are_recorded, id_of, is_refused},
        scene::{Provider, Scene},
    },
    outage::is_alive,
};

#[tokio::test]
async fn a_full_disk_lets_no_answer_out_and_room_brings_those_that_were_held() {
    let volume = super::volume(Volume::memory(48));
    let server = ModelServer::start().await;
    let os = TestOs::bare_on(&volume);
    os.cli_ok(&["init"]).await;
    // An answer is held for as long as a lease.
    let config = "[tasks]\nlease_ms = 120000\n";
    let scene = Scene::open_in(os, config, &[Provider::openai("alpha", &server)], &[]).await;
    scene.os.deploy(&Package::echo("echo", "")).await;
    scene.budget(&["--per", "total", "--usd", "1"]).await;
    let (client, pid) = (scene.os.client(), scene.os.server_pid());
    let mut ids = vec![id_of(&scene.chat("alpha/small", false).await)];

    // Under way before it is full: asked, and its intent is in the log.
    server.next(Act::Hold { after: 0 });
    let held = scene.chat("alpha/small", false);
    tokio::pin!(held);
    tokio::select! {
        _ = &mut held => panic!("it is held"),
        _ = server.has_generations(2) => {}
    }
    eventually("its intent", || async {
        if scene.records_of("intent").await.len() == 2 { Ok(()) } else { Err("not yet") }
    })
    .await;
    volume.fill();
    super::refused(&scene.os).await;
    until("the server says that it takes no work", || async { !client.ready().await.unwrap() }).await;
    server.release();
    until("the provider has answered", || async { server.asked()[1].is_finished }).await;
    for _ in 0..2 {
        // A stream needs its intent before its first byte, so that nobody waits for a record of its end.
        is_refused(scene.chat("alpha/small", true).await).await;
    }
    assert!(is_alive(&scene.os).await);
    assert!(futures_util::poll!(&mut held).is_pending(), "there is no room for its record");

    volume.free();
    let answer = held.await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    ids.push(id_of(&answer));
    until("the server takes work again", || async { client.ready().await.unwrap() }).await;
    ids.push(answers_again(&scene).await);
    are_recorded(&scene, &ids).await;
    assert_eq!(scene.os.server_pid(), pid, "without a restart");
    eventually("nothing is held any more", || async {
        let standing = scene.standing(&scene.payer()).await;
        if standing["reserved"] == 0 { Ok(()) } else { Err(standing) }
    })
    .await;
}
