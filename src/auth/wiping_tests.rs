//! Copies of secrets in this process's memory after they are dropped. Linux shows a process its own memory.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::SystemTime;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::grant::{Client, Grant, Owner, TokenOptions, form, read_session};
use super::store::{FileTokenStore, TokenStore as _};
use crate::secret::{body, wipe};

/// A text that is searched for without being in memory in plain.
struct Needle(Vec<u8>);

impl Needle {
    fn new(parts: [&str; 2]) -> Self {
        Self(parts.iter().flat_map(|part| part.bytes()).map(|byte| !byte).collect())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.iter().map(|byte| !byte).collect()).unwrap()
    }

    fn secret(&self) -> Zeroizing<String> {
        Zeroizing::new(self.text())
    }

    /// The number of copies in the heap.
    fn copies(&self) -> usize {
        let (mut all, mut memory) = (0, File::open("/proc/self/mem").unwrap());
        let mut chunk = vec![0; 1 << 20];
        for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_heap = fields.len() == 5 || fields.get(5) == Some(&"[heap]");
            if !fields[1].starts_with("rw") || !is_heap {
                continue;
            }
            let (from, to) = fields[0].split_once('-').unwrap();
            let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            while from < to {
                let part = &mut chunk[..usize::try_from(to - from).unwrap_or(usize::MAX).min(1 << 20)];
                memory.seek(SeekFrom::Start(from)).unwrap();
                // Other threads may have unmapped it meanwhile.
                if memory.read_exact(part).is_err() {
                    break;
                }
                let is_here = |window: &[u8]| window.iter().zip(&self.0).all(|(byte, wanted)| *byte == !wanted);
                all += part.windows(self.0.len()).filter(|window| is_here(window)).count();
                from += part.len() as u64;
                // The next chunk must not find a copy of this one.
                part.fill(0);
            }
        }
        all
    }
}

/// In a separate process, whose memory is small.
#[tokio::test]
async fn no_copy_of_a_dropped_token_or_jwt_is_left_in_the_heap() {
    const ALONE: &str = "RC_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "auth::wiping_tests::no_copy_of_a_dropped_token_or_jwt_is_left_in_the_heap";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let done = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let printed = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && printed.contains("1 passed"), "{printed}{:?}", done.stderr);
        return;
    }
    let access = Needle::new(["aCCess-t0ken-0f-a-l0gin-", "tHat-iS-0ver"]);
    let refresh = Needle::new(["rEFresh-t0ken-0f-a-l0gin-", "tHat-iS-0ver"]);
    let jwt = Needle::new(["eYJ-jWt-0f-a-l0gin-", "tHat-iS-0ver"]);
    let all = [&access, &refresh, &jwt];
    let directory = tempfile::tempdir().unwrap();
    {
        let grant = Grant::Jwt(jwt.text().into());
        let sent = body(form(&grant, &TokenOptions::default(), Client::default()));
        let mut answer = bytes::BytesMut::with_capacity(1024);
        for part in [
            r#"{"access_token":""#,
            &access.secret(),
            r#"","expires_in":3600,"refresh_token":""#,
            &refresh.secret(),
            "\"}",
        ] {
            answer.extend_from_slice(part.as_bytes());
        }
        let answer = answer.freeze();
        let owner = Owner { server: "https://h/", client_id: "app" };
        let session = read_session(&answer, owner, None, (Instant::now(), SystemTime::UNIX_EPOCH)).unwrap();
        wipe(answer);
        let header = super::token::bearer(&session.access).unwrap();
        let store = FileTokenStore::new(directory.path().join("tokens.json"));
        store.save(&session.stored).await.unwrap();
        let stored = store.load().await.unwrap().unwrap();
        for needle in all {
            assert!(needle.copies() > 0, "a secret in use is found");
        }
        assert_eq!(header.as_bytes().len(), 7 + stored.access_token.expose().len());
        assert!(!sent.is_empty());
    }
    assert_eq!(all.map(Needle::copies), [0; 3], "access token, refresh token, JWT");
}

#[test]
fn a_dropped_cipher_overwrites_its_key_schedule() {
    fn is_overwritten<T: zeroize::ZeroizeOnDrop>() {}
    is_overwritten::<aes::Aes128>();
    is_overwritten::<aes::Aes192>();
    is_overwritten::<aes::Aes256>();
}
