use std::os::unix::fs::PermissionsExt;

use agentos_types::Timestamp;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_data_directory_comes_from_flag_then_variable_then_home() {
    let flag = Globals { data_dir: Some("/flag".into()), ..Globals::default() };
    let both = environment(&[("AGENT_OS_HOME", "/variable"), ("HOME", "/home/ann")]);
    assert_eq!(data_dir(&flag, &both).unwrap(), Path::new("/flag"));
    assert_eq!(data_dir(&Globals::default(), &both).unwrap(), Path::new("/variable"));
    let home = environment(&[("AGENT_OS_HOME", ""), ("HOME", "/home/ann")]);
    assert_eq!(data_dir(&Globals::default(), &home).unwrap(), Path::new("/home/ann/.local/share/agent-os"));
    assert_eq!(data_dir(&Globals::default(), &environment(&[])).unwrap_err().code, Code::USAGE);
}

fn installation(token_mode: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join(TOKEN_FILE);
    fs::write(&token, "secret-token\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(token_mode)).unwrap();
    let server = ServerFile {
        pid: 1,
        url: "http://127.0.0.1:18800".into(),
        version: "0.1.0".into(),
        started_at: Timestamp::ZERO,
        tls_cert_file: None,
    };
    server.store(directory.path()).unwrap();
    directory
}

#[test]
fn the_local_token_is_private_and_stays_on_this_machine() {
    let good = installation(0o600);
    let globals = Globals { data_dir: Some(good.path().into()), ..Globals::default() };
    let nothing = environment(&[]);
    assert_eq!(local_token(&globals, &nothing), Ok(Some("secret-token".into())));
    assert_eq!(client(&globals, &nothing).unwrap().base_url(), "http://127.0.0.1:18800");
    // Plain HTTP to another machine is refused with a token, so this passes only because none is taken from the file.
    let remote = Globals { url: Some("http://os.example".into()), ..globals.clone() };
    assert!(client(&remote, &nothing).is_ok());
    assert!(client(&remote, &environment(&[(TOKEN_VARIABLE, "named")])).is_err());

    for mode in [0o640, 0o604] {
        let wide = installation(mode);
        let globals = Globals { data_dir: Some(wide.path().into()), ..Globals::default() };
        assert_eq!(client(&globals, &nothing).unwrap_err().code, Code::FILE_MODE);
        assert!(client(&globals, &environment(&[(TOKEN_VARIABLE, "named")])).is_ok(), "a named token needs no file");
    }
}

#[test]
fn a_directory_without_a_server_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let globals = Globals { data_dir: Some(directory.path().into()), ..Globals::default() };
    let hint = || client(&globals, &environment(&[])).unwrap_err().hint.unwrap();
    assert!(hint().contains("agent-os init"));
    fs::write(directory.path().join(DATABASE_FILE), "").unwrap();
    assert!(hint().contains("agent-os up --detach"));
}
