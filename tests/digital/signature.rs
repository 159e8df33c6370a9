//! Signatures: test vectors from other implementations, in both directions.

use proptest::prelude::*;
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::Signer;

const K1: &str = "digital-source-vector-key-01";
/// Longer than a SHA-512 block.
const K2: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
                  kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";
const K3: &str = "clé-secrète";

macro_rules! body_a {
    () => {
        r#"{"action":"implementation.info","time":"2026-01-02T03:04:05Z"}"#
    };
}

/// Name, key, length, body, signature.
const VECTORS: [(&str, &str, usize, &str, &str); 12] = [
    (
        "A",
        K1,
        62,
        body_a!(),
        "7b5393faf49dd8335d99d8a5933411bf21fdfe918f49bd93a5ac7c654ef4cd656fe85ba77ca0c031019f70887c77c96ecbd52f4d7f8096f42592cbc24f0f3dde",
    ),
    (
        "B",
        K1,
        85,
        r#"{"action":"messages.list","params":{"since_id":"m-41"},"time":"2026-01-02T03:04:06Z"}"#,
        "5af8760259d8e84f999232ba71f2780718627654f184245844f66897ccf25c2a12a3cfd0b77cd43213981df610212eff92d854cd067b5d2dbe537668369f11d5",
    ),
    (
        "C",
        K1,
        150,
        r#"{"action":"messages.create","params":{"author_id":"agent-1","body":"Ça va ? 😀 <b>ok</b> & merci","thread_id":"t-1"},"time":"2026-01-02T03:04:07Z"}"#,
        "d85f924e8aa7a3852f5af0427dc0d45f5ff06c5b0418b71cb7d6e52d07a6dbf53e0c9413e65dfff5f97866e30dd4fd24d9996079f88755107f383168439caba0",
    ),
    (
        "D",
        K1,
        187,
        r#"{"action":"messages.create","params":{"author_id":"agent-1","body":"\u00c7a va ? \ud83d\ude00 \u003cb\u003eok\u003c/b\u003e \u0026 merci","thread_id":"t-1"},"time":"2026-01-02T03:04:07Z"}"#,
        "6ac5fb374fe8a803d3b16da860ba7126c61763d74627500bc6bc828919ad72b6b79c6582a1b8cdae28a3ae95d7ca92ea38f1d3665034bf8a872ddb7306e54ced",
    ),
    (
        "E",
        K1,
        67,
        r#"{ "action": "implementation.info", "time": "2026-01-02T03:04:05Z" }"#,
        "8e0ed53f6507fdd8dea668acc13e93424c86d6b033a84f6d74922f8830932f850ca3c070dfd58e3ca8714948f62be140e2f12f113138161ba93c4bc84f6b1ce6",
    ),
    (
        "F",
        K1,
        63,
        concat!(body_a!(), "\n"),
        "64148898c8834ca0845e3b0101d1c0a1d7fdaaca38ca091ae7e4ccaf231b35ca04248d1dd6d5942a1e2a18b603dafbfaa4503af94277d149865422aa115af6c2",
    ),
    (
        "G",
        K1,
        2,
        r#"[]"#,
        "e9641c68e2025b4c4e749ac8210104d64bb6da7b8f4c311b8a8508b9f92ea20cade919285463883c911ee9dcaf8a5f53a2c85d5350d8e397ac7fbe243c81274c",
    ),
    (
        "H",
        K1,
        0,
        "",
        "e3d9874138b915b78b860b7793fbd501991fe0ed8dc5ca5af2f9fe332e2dcc37bc03daae0acd940ee5c8055edeccdd0ef380a375639519e247e561630a561fe4",
    ),
    (
        "I",
        K2,
        62,
        body_a!(),
        "7a1a73e887d1a6b5aa5d0a3b571d17962d101b9e660ce192c890c3e86887c4c0cd9ae0220481dea2e1ada89bb1c53f45ff676aaeeb6d347671fc31c6136fbc01",
    ),
    (
        "J",
        K3,
        62,
        body_a!(),
        "f8fd1404a2cd4f6921e3609487f4156896f6c255956228b1516e7b8dd9de79e1a92b692b8b261f56402fa0039e45bd7b7d7eca7a33ad8c0946c575270197ba4c",
    ),
    (
        "K",
        K1,
        124,
        r#"{"objects":{"messages":["create","list","show"],"threads":["list","show"]},"options":["threads.no_content","messages.text"]}"#,
        "3f0f8ad8f2a3e9730f313ee70bc2eda58117641d9cc82634b60c7f95c7711611179b2d2b98672b5a48dd3bcd3d5a82f6df9a8ba43028df351810b59996a2643e",
    ),
    (
        "L",
        K1,
        200,
        r#"{"action":"messages.create","params":{"author":{"created_at":"2026-01-01T00:00:00Z","id":"cust-7","screenname":"Ana","updated_at":"2026-01-01T00:00:00Z"},"body":"Hello","id":"m-42","thread_id":"t-1"}}"#,
        "88cc29191fc14dc0ceeb460fcacd28efc1f2cac6c1e79901f0f44eca962085714e343014e811f3828c75747361f570f159d695cfe367c70bd8aab826bfd46c7f",
    ),
];

/// From the vendor's documentation, for the compact form of the body there.
const VENDOR: (&str, &str, &str) = (
    "3YJZzqMJ5Ec7i2JGvnt8TgvleD7dtpwpmag4S6MuRA2GQdfvV4STIsxDRJ4fEjO8",
    r#"{"action":"implementation.info","time":"2012-10-01T17:18:40Z"}"#,
    "826b61e7939505b2e773ef43a2aad53ec0385dd9d783fbd1c8fea00d0e2a3e2fb0ae0a5b2eb342356b61c41b5f19baec4c1f7e7e37a5b486fe9b593942017ff9",
);

#[test]
fn every_vector_is_reproduced_and_accepted() {
    assert_eq!(K2.len(), 200);
    for (name, key, length, body, signature) in VECTORS {
        assert_eq!(body.len(), length, "{name}");
        let signer = Signer::new(key).unwrap();
        assert_eq!(signer.sign(body.as_bytes()), signature, "{name}");
        assert!(signer.verify(body.as_bytes(), signature).is_ok(), "{name}");
    }
}

#[test]
fn the_vendors_vector_is_reproduced_and_accepted() {
    let (key, body, signature) = VENDOR;
    let signer = Signer::new(key).unwrap();
    assert_eq!(signer.sign(body.as_bytes()), signature);
    assert!(signer.verify(body.as_bytes(), signature).is_ok());
}

#[test]
fn a_signature_matches_only_its_body_and_key() {
    for (name, _, _, _, signature) in VECTORS {
        for (other, key, _, body, _) in VECTORS {
            let accepted = Signer::new(key).unwrap().verify(body.as_bytes(), signature).is_ok();
            assert_eq!(accepted, name == other, "{name} for {other}");
        }
    }
}

#[test]
fn a_signature_in_any_other_form_is_refused() {
    let (_, key, _, body, good) = VECTORS[0];
    let signer = Signer::new(key).unwrap();
    let mut flipped = good.to_owned();
    flipped.replace_range(127.., if good.ends_with('e') { "f" } else { "e" });
    for (why, bad) in [
        ("empty", String::new()),
        ("one digit short", good[..127].to_owned()),
        ("one byte short", good[..126].to_owned()),
        ("half of it", good[..64].to_owned()),
        ("too long", format!("{good}00")),
        ("twice", format!("{good}{good}")),
        ("two values", format!("{good}, {good}")),
        ("upper case", good.to_uppercase()),
        ("one upper-case digit", good.replacen('b', "B", 1)),
        ("another last digit", flipped),
        ("no digit", format!("{}g", &good[..127])),
        ("a sign where a digit should be", format!("+{}", &good[1..])),
        ("white space before", format!(" {}", &good[1..])),
        ("white space after", format!("{good}\n")),
        ("as long, of other characters", "é".repeat(64)),
    ] {
        assert!(signer.verify(body.as_bytes(), &bad).is_err(), "{why}");
    }
}

#[test]
fn an_invalid_token_is_refused_without_being_shown() {
    for token in ["", " ", "\n", "hunter2\n", " hunter2", "\u{a0}hunter2"] {
        let error = Signer::new(token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{token:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

#[test]
fn neither_key_nor_signature_is_shown() {
    let signer = Signer::new("hunter2").unwrap();
    let right = signer.sign(b"body");
    let error = signer.verify(b"body", "00").unwrap_err();
    let shown = format!("{signer:?} {error:?} {error} {:?}", ringcentral_events::Error::from(error));
    assert_eq!(format!("{signer:?}"), "Signer(..)");
    assert!(!shown.contains("hunter2") && !shown.contains(&right));
}

proptest! {
    #[test]
    fn a_signature_verifies_and_a_changed_byte_does_not(
        key in "[^\\s]{1,80}", body in proptest::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), flip in 1..=u8::MAX,
    ) {
        let signer = Signer::new(key).unwrap();
        let signature = signer.sign(&body);
        prop_assert!(signer.verify(&body, &signature).is_ok());
        let mut other = body.clone();
        other[at.index(body.len())] ^= flip;
        prop_assert!(signer.verify(&other, &signature).is_err());
        prop_assert!(signer.verify(&body[1..], &signature).is_err());
    }

    #[test]
    fn any_text_as_a_signature_gets_a_response(text in any::<String>(), digits in "[0-9a-fA-F]{126,130}") {
        let signer = Signer::new("k").unwrap();
        prop_assert!(signer.verify(b"body", &text).is_err());
        prop_assert!(signer.verify(b"body", &digits).is_err());
    }
}
