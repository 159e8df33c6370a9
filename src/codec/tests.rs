use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::{ErrorKind, Secret};

const KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";
const V1_PLAIN: &str = r#"{"uuid":"11111111-2222-4333-8444-555555555555","event":"/restapi/v1.0/account/100200300/extension/100200301/message-store","timestamp":"2024-05-06T07:08:09.010Z","subscriptionId":"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee","ownerId":"100200301","body":{"extensionId":100200301,"lastUpdated":"2024-05-06T07:08:01.234+0000","changes":[{"type":"SMS","newCount":1,"updatedCount":0,"newMessageIds":[900800700600]}]}}"#;
const V1: &str = "PfQVbZEzVAmc6+IuYjbMqb6u8Lsdy7KL8J2ssKjloiuH08QSzHEycR0nyMaJHjGIfKf5ntZJpY4NQBxj6uWNzqM6vkpypaTKSw2Q9XMfblCOdZooNFJi4D1r3OI9SiR/+wFaWA2KNm2kuNsdMr05QZzuKDNZD/SKOxzotDNiULLllWHxrqXVAsigf8dI9pqdYrZesJc3+MLgUYxMzVzX5oWgUi3nlW2emV2xhpPUObRgKFbdGBZ//yO2HFVBF1aD3Z5xYmQ52ihlvUKJLlrlJJBoXr9S9FtdmZVRVtbh9uMm/UIREKwke+psnJebSVxjfONHTulgUcD44885xcrqR5L8sJPIlguXkjPAWkNDkf8laLqdyP0yxOLK1QX4v71m3nD4WuuoO78B5UoT5EI7jZWimPLb0XYYxEhLQuItit94OXOKV5s0IavM58QZXtr1Ai+vGsZSlFOZSZ2A23y2o+xMqTHs8G3EHOypNgJv0JJ3uC53ATWjeDp7UIYX4XzqsDeTP4mOh+XgIkoX673+Rb+9X/zKz+BK6oOSwzHYm9M=";
const V2_PLAIN: &str = "{\"event\":\"/x\",\"body\":{\"t\":\"héllo ☃\"}        }";
const V2: &str = "P7tR3j3+517Bcn6kyneUqm4Ieh1BfnsZ31OdxP0zkXVgh458qpuLVxgo5PrCo3eXL4E/O0gNVLaUvFY7Hweaiw==";
const V3: &str = "Bz04jCY29UZGCeUiQMRbYw==";

// The known answer of ringcentral-js, `Subscription-spec.ts`: made by the
// service itself.
const PUBLIC_KEY: &str = "e0bMTqmumPfFUbwzppkSbA==";
const PUBLIC: &str = concat!(
    "gkw8EU4G1SDVa2/hrlv6+0ViIxB7N1i1z5MU/Hu2xkIKzH6yQzhr3vIc27IAN558kTOkacqE5DkLpRdnN1orwtI",
    "BsUHmPMkMWTOLDzVr6eRk+2Gcj2Wft7ZKrCD+FCXlKYIoa98tUD2xvoYnRwxiE2QaNywl8UtjaqpTk1+WDImBrt",
    "6uabB1WICY/qE0It3DqQ6vdUWISoTfjb+vT5h9kfZxWYUP4ykN2UtUW1biqCjj1Rb6GWGnTx6jPqF77ud0XgV1r",
    "k/Q6heSFZWV/GP23/iytDPK1HGJoJqXPx7ErQU=",
);
const PUBLIC_PLAIN: &str = r#"{"timestamp":"2014-03-12T20:47:54.712+0000","body":{"extensionId":402853446008,"telephonyStatus":"OnHold"},"event":"/restapi/v1.0/account/~/extension/402853446008/presence","uuid":"db01e7de-5f3c-4ee5-ab72-f8bd3b77e308"}"#;

fn cipher(algorithm: &str, key: &[u8]) -> Cipher {
    Cipher::from_delivery_mode(Some(algorithm), &Secret::new(STANDARD.encode(key))).unwrap()
}

fn aes() -> Cipher {
    Cipher::from_delivery_mode(Some("AES"), &Secret::new(KEY)).unwrap()
}

fn text(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn decoded(payload: &str, ciphers: &[&Cipher]) -> Result<String, DecodeError> {
    decode(&text(payload), ciphers).map(|value| value.get().to_owned())
}

#[test]
fn p1_known_answers() {
    let key = aes();
    for (ciphertext, plaintext) in [(V1, V1_PLAIN), (V2, V2_PLAIN), (V3, "{}")] {
        assert_eq!(decoded(ciphertext, &[&key]).as_deref(), Ok(plaintext));
        assert_eq!(key.encrypt(plaintext.as_bytes(), [0; 16]).unwrap(), ciphertext);
    }
    assert_eq!((V1_PLAIN.len(), V2_PLAIN.len()), (406, 48));
}

#[test]
fn p1_known_answer_of_the_service() {
    let key = Cipher::from_delivery_mode(None, &Secret::new(PUBLIC_KEY)).unwrap();
    assert_eq!(decoded(PUBLIC, &[&key]).as_deref(), Ok(PUBLIC_PLAIN));
}

#[test]
fn known_answer_of_cbc_with_the_iv_in_front() {
    // NIST SP 800-38A F.2.1, first block; the rest of the message is its padding
    // block, so only the start can be compared with the publication.
    let key = cipher("AES/CBC/PKCS5Padding", &0x2b7e1516_28aed2a6_abf71588_09cf4f3c_u128.to_be_bytes());
    let iv = 0x00010203_04050607_08090a0b_0c0d0e0f_u128.to_be_bytes();
    let plaintext = 0x6bc1bee2_2e409f96_e93d7e11_7393172a_u128.to_be_bytes();
    let message = STANDARD.decode(key.encrypt(&plaintext, iv).unwrap()).unwrap();
    assert_eq!(message[..16], iv);
    assert_eq!(message[16..32], 0x7649abac_8119b246_cee98e9b_12e9197d_u128.to_be_bytes());
    assert_eq!(key.decrypt(&message).unwrap(), plaintext);
}

#[test]
fn p2_plain_object_is_handed_on_byte_for_byte() {
    let odd = r#"{ "b" : 1.0e+2 ,"a":"\/", "a":18446744073709551616 }"#;
    assert_eq!(decode(&raw(odd), &[]).unwrap().get(), odd);
    assert_eq!(decode(&raw(odd), &[&aes()]).unwrap().get(), odd);
}

#[test]
fn a_cbc_message_of_nothing_but_its_iv_is_told_by_its_length() {
    let key = cipher("AES/CBC/PKCS5Padding", &[3; 16]);
    assert_eq!(decoded(&STANDARD.encode([7; 16]), &[&key]), Err(DecodeError::Length { bytes: 16 }));
}

#[test]
fn p2_every_failure_has_its_own_error() {
    let key = aes();
    let encrypted = |plaintext: &[u8]| key.encrypt(plaintext, [0; 16]).unwrap();
    let rows: &[(&str, String, DecodeError)] = &[
        ("not base64", "!!!!".into(), DecodeError::Base64 { chars: 4 }),
        ("empty", String::new(), DecodeError::Length { bytes: 0 }),
        ("half a block", STANDARD.encode([7; 24]), DecodeError::Length { bytes: 24 }),
        ("random block", STANDARD.encode([7; 16]), DecodeError::Padding { bytes: 16 }),
        ("not UTF-8", encrypted(b"{\"a\":\"\xff\"}"), DecodeError::Utf8 { bytes: 9 }),
        ("not JSON", encrypted(b"{\"a\":"), DecodeError::Json { bytes: 5 }),
        ("empty plaintext", encrypted(b""), DecodeError::Json { bytes: 0 }),
        ("two values", encrypted(b"{} {}"), DecodeError::Json { bytes: 5 }),
        ("an array inside", encrypted(b"[{}]"), DecodeError::NotAnObject { bytes: 4 }),
    ];
    for (what, payload, error) in rows {
        assert_eq!(decoded(payload, &[&key]), Err(*error), "{what}");
    }
    assert_eq!(decoded(V1, &[]), Err(DecodeError::NoKey { chars: V1.len() }));
}

#[test]
fn p2_wrong_key_is_an_error() {
    let wrong = cipher("AES", &[1; 16]);
    assert_eq!(decoded(V1, &[&wrong]), Err(DecodeError::Padding { bytes: 416 }));
}

#[test]
fn neither_string_nor_object_is_an_error() {
    for (json, bytes) in [("null", 4), ("true", 4), ("17", 2), ("-1.5", 4), ("[{}]", 4)] {
        assert_eq!(decode(&raw(json), &[&aes()]).map(drop), Err(DecodeError::NotAnObject { bytes }), "{json}");
    }
}

#[test]
fn json_text_in_a_string_is_parsed_once() {
    let inner = r#"{"event":"/x","t":"a\"b"}"#;
    assert_eq!(decoded(inner, &[]).as_deref(), Ok(inner));
    assert_eq!(decoded(&format!("\n {inner} "), &[&aes()]).as_deref(), Ok(inner));
    assert_eq!(decoded("{\"a\":", &[&aes()]), Err(DecodeError::Json { bytes: 5 }));
    // Once, not until it fits.
    let twice = serde_json::to_string(inner).unwrap();
    assert_eq!(decoded(&twice, &[]), Err(DecodeError::NoKey { chars: twice.len() }));
}

#[test]
fn white_space_and_json_escapes_in_base64_are_skipped() {
    let broken: String =
        V1.as_bytes().chunks(76).flat_map(|line| [std::str::from_utf8(line).unwrap(), "\r\n"]).collect();
    assert_eq!(decoded(&format!(" \t{broken}"), &[&aes()]).as_deref(), Ok(V1_PLAIN));

    let escaped = format!("\"{}\"", V1.replace('/', "\\/"));
    assert!(escaped.contains("\\/"));
    assert_eq!(decode(&raw(&escaped), &[&aes()]).unwrap().get(), V1_PLAIN);

    assert_eq!(decoded(V1.trim_end_matches('='), &[&aes()]).as_deref(), Ok(V1_PLAIN));
}

#[test]
fn a_string_that_no_text_can_hold_is_an_error() {
    assert_eq!(decode(&raw(r#""\ud800""#), &[&aes()]).map(drop), Err(DecodeError::Json { bytes: 8 }));
}

#[test]
fn second_key_is_tried_and_the_first_error_is_told() {
    let (current, previous) = (cipher("AES", &[1; 16]), aes());
    assert_eq!(decoded(V1, &[&current, &previous]).as_deref(), Ok(V1_PLAIN));
    assert_eq!(decoded(V1, &[&previous, &current]).as_deref(), Ok(V1_PLAIN));

    // The first key fits and its plaintext is bad: that is what must be said.
    let bad = previous.encrypt(b"[]", [0; 16]).unwrap();
    assert_eq!(decoded(&bad, &[&previous, &current]), Err(DecodeError::NotAnObject { bytes: 2 }));
}

#[test]
fn a_wrong_key_that_passes_the_padding_check_does_not_stop_the_search() {
    let (wrong, right) = (cipher("AES", &[9; 16]), aes());
    let mut passed = 0;
    for n in 0..2000 {
        let plaintext = format!("{{\"n\":{n}}}");
        let payload = right.encrypt(plaintext.as_bytes(), [0; 16]).unwrap();
        assert_eq!(decoded(&payload, &[&wrong, &right]).as_deref(), Ok(&*plaintext));
        match decoded(&payload, &[&wrong]) {
            Err(DecodeError::Padding { .. }) => {}
            Err(DecodeError::Utf8 { .. } | DecodeError::Json { .. }) => passed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(passed > 0, "the case under test never came up");
}

/// One block under the test key, with no padding added.
fn block(plaintext: [u8; 16]) -> String {
    let mut block = Array::from(plaintext);
    aes::Aes128::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap().encrypt_block(&mut block);
    STANDARD.encode(block)
}

#[test]
fn padding_is_checked_in_full() {
    let mut good = [14; 16];
    good[..2].copy_from_slice(b"{}");
    assert_eq!(decoded(&block(good), &[&aes()]).as_deref(), Ok("{}"));

    for at in 2..16 {
        for wrong in [0, 1, 13, 15, 16, 17, 0x8e, 255] {
            let mut mutant = good;
            mutant[at] = wrong;
            let result = decoded(&block(mutant), &[&aes()]);
            // A last byte of 1 is right padding of another, not JSON, text.
            let expected = if (at, wrong) == (15, 1) {
                DecodeError::Json { bytes: 15 }
            } else {
                DecodeError::Padding { bytes: 16 }
            };
            assert_eq!(result, Err(expected), "byte {at} = {wrong}");
        }
    }
}

#[test]
fn algorithm_is_a_jca_transformation_name() {
    let secret = Secret::new(KEY);
    let debug = |name| format!("{:?}", Cipher::from_delivery_mode(name, &secret).unwrap());
    for name in [
        None,
        Some(""),
        Some("AES"),
        Some(" aes "),
        Some("AES/ECB/PKCS5Padding"),
        Some("aes/ecb/pkcs7padding"),
        Some("AES / ECB / PKCS5Padding"),
    ] {
        assert_eq!(debug(name), "Cipher(Ecb, 128 bits, ..)", "{name:?}");
    }
    for name in [Some("AES/CBC/PKCS5Padding"), Some("Aes / Cbc / Pkcs7Padding")] {
        assert_eq!(debug(name), "Cipher(Cbc, 128 bits, ..)", "{name:?}");
    }
    for name in ["AES/GCM/NoPadding", "AES/ECB/NoPadding", "AES/ECB", "DESede", "AES/CBC/PKCS5Padding/x", "AES-128"] {
        let error = Cipher::from_delivery_mode(Some(name), &secret).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Crypto, "{name}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!format!("{error:?}").contains(KEY));
    }
    let long = Cipher::from_delivery_mode(Some(&"x".repeat(100_000)), &secret).unwrap_err();
    assert!(long.to_string().len() < 200);
}

#[test]
fn key_of_any_other_length_is_a_typed_error() {
    for length in 0..70 {
        let key = vec![0x5a; length];
        for text in [STANDARD.encode(&key), STANDARD.encode(&key).trim_end_matches('=').to_owned()] {
            match (length, Cipher::from_delivery_mode(None, &Secret::new(text))) {
                (16 | 24 | 32, result) => assert!(result.is_ok(), "{length}"),
                (_, Ok(_)) => panic!("{length} bytes accepted"),
                (_, Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Crypto);
                    assert!(error.to_string().contains(&length.to_string()), "{error}");
                }
            }
        }
    }
    let error = Cipher::from_delivery_mode(None, &Secret::new("?secret?")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crypto);
    assert!(!format!("{error} {error:?}").contains("secret?"));
    let spaced = Secret::new(format!(" {}\n{} ", &KEY[..10], &KEY[10..]));
    let spaced = Cipher::from_delivery_mode(None, &spaced).unwrap();
    assert_eq!(decoded(V3, &[&spaced]).as_deref(), Ok("{}"));
}

#[test]
fn debug_and_errors_show_neither_key_nor_text() {
    let key = aes();
    let shown = format!("{key:?} {key:#?} {:?} {}", decode(&text("héllo"), &[&key]), DecodeError::Json { bytes: 3 });
    for secret in [KEY, "165, 216", "a5d8fe", "llo"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn algorithm() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("AES/ECB/PKCS5Padding"), Just("AES/CBC/PKCS5Padding")]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(Vec::from),
        any::<[u8; 24]>().prop_map(Vec::from),
        any::<[u8; 32]>().prop_map(Vec::from),
    ]
}

proptest! {
    #[test]
    fn every_length_comes_back_in_every_mode(key: [u8; 32], iv: [u8; 16], fill in "[a-zé☃]") {
        let modes = ["AES/ECB/PKCS5Padding", "AES/CBC/PKCS5Padding"];
        for (algorithm, bytes) in modes.into_iter().flat_map(|mode| [16, 24, 32].map(|bytes| (mode, bytes))) {
            let cipher = cipher(algorithm, &key[..bytes]);
            for length in 0..35 {
                let plaintext = format!("{{\"a\":\"{}\"}}", fill.repeat(length));
                let payload = cipher.encrypt(plaintext.as_bytes(), iv).unwrap();
                prop_assert_eq!(decoded(&payload, &[&cipher]), Ok(plaintext));
            }
        }
    }

    #[test]
    fn any_bytes_under_any_cipher_never_panic(algorithm in algorithm(), key in key(), bytes: Vec<u8>, spoilt: String) {
        let cipher = cipher(algorithm, &key);
        let _ = cipher.decrypt(&bytes);
        let _ = decode(&text(&STANDARD.encode(&bytes)), &[&cipher]);
        let _ = decode(&text(&spoilt), &[&cipher]);
        if let Ok(payload) = RawValue::from_string(spoilt.clone()) {
            let _ = decode(&payload, &[&cipher]);
        }
        let _ = Cipher::from_delivery_mode(Some(&spoilt), &Secret::new(STANDARD.encode(&bytes)));
        let _ = Cipher::from_delivery_mode(None, &Secret::new(spoilt));
    }

    #[test]
    fn whole_blocks_of_any_bytes_never_panic(algorithm in algorithm(), key in key(), blocks in prop::collection::vec(any::<[u8; 16]>(), 0..6)) {
        let cipher = cipher(algorithm, &key);
        let ciphertext = STANDARD.encode(blocks.concat());
        if let Ok(value) = decode(&text(&ciphertext), &[&cipher, &aes()]) {
            prop_assert!(value.get().starts_with('{'), "not an object");
        }
    }
}
