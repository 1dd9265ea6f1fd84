//! Which tokens are valid, and why the others are not.

use std::path::Path;

use serde_json::{Value, json};
use sortie_identity::{BadTokenOptions, MAX_TOKEN_BYTES, PlayerTokens, TokenError, TokenKeys};

use crate::options;
use crate::signer::{Signer, claims, encode, now};

const SECRET: &[u8; 32] = b"a secret of thirty-two bytes, ok";

fn secret() -> (PlayerTokens, Signer) {
    let tokens = PlayerTokens::new(options(TokenKeys::Secret(SECRET.to_vec().into()))).unwrap();
    (tokens, Signer::Hmac(SECRET.to_vec()))
}

fn jwks(folder: &Path, keys: &[Value]) -> TokenKeys {
    let (path, fresh) = (folder.join("jwks.json"), folder.join("jwks.new"));
    std::fs::write(&fresh, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(fresh, &path).unwrap();
    TokenKeys::File(path)
}

async fn player(tokens: &PlayerTokens, token: &str) -> Result<String, TokenError> {
    tokens.player(token).await.map(|player| player.to_string())
}

#[tokio::test]
async fn the_subject_of_a_good_token_is_the_player() {
    let (tokens, signer) = secret();
    assert_eq!(player(&tokens, &signer.token("any", "p1")).await.unwrap(), "p1");

    let golden: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let (ec, ed, folder) = (Signer::ec(), Signer::ed(), tempfile::tempdir().unwrap());
    let others = [
        json!({"kty": "EC", "crv": "P-521", "kid": "ec", "x": "AA", "y": "AA"}),
        json!({"kty": "from the future", "kid": "ed"}),
        json!({"kty": "oct", "kid": "secret", "k": encode(SECRET)}),
        json!("no key"),
    ];
    let keys = [&[golden["jwk"].clone(), ec.jwk("ec"), ed.jwk("ed")], &others[..]].concat();
    let tokens = PlayerTokens::new(options(jwks(folder.path(), &keys))).unwrap();
    let rsa = golden["token"].as_str().unwrap();
    assert_eq!(player(&tokens, rsa).await.unwrap(), "player-of-rsa");
    assert_eq!(player(&tokens, &ec.token("ec", "p2")).await.unwrap(), "p2");
    assert_eq!(player(&tokens, &ed.token("ed", "p3")).await.unwrap(), "p3");
    let unnamed = ed.sign(&json!({"alg": "EdDSA"}), &claims("p4"));
    assert_eq!(player(&tokens, &unnamed).await.unwrap(), "p4");
    // A public document holds no secrets, so a secret in one is not ours.
    let secret = Signer::Hmac(SECRET.to_vec()).token("secret", "p5");
    assert_eq!(player(&tokens, &secret).await, Err(TokenError::UnknownKey));
    let cut = &rsa[..rsa.len() - 6];
    assert_eq!(player(&tokens, cut).await, Err(TokenError::Signature));
}

#[tokio::test]
async fn the_algorithm_is_that_of_the_key() {
    let golden: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let (ec, folder) = (Signer::ec(), tempfile::tempdir().unwrap());
    let tokens =
        PlayerTokens::new(options(jwks(folder.path(), &[golden["jwk"].clone(), ec.jwk("ec")]))).unwrap();
    // Everything about a public key is public, so anybody could use it as a secret.
    let public = [golden["jwk"]["n"].as_str().unwrap().to_owned(), ec.jwk("ec").to_string()];
    for (text, id) in public.iter().zip(["rsa", "ec"]) {
        let forged = Signer::Hmac(text.clone().into_bytes());
        assert_eq!(player(&tokens, &forged.token(id, "p")).await, Err(TokenError::Algorithm));
        let unnamed = forged.sign(&json!({"alg": "HS256"}), &claims("p"));
        assert_eq!(player(&tokens, &unnamed).await, Err(TokenError::Algorithm));
    }
    assert_eq!(player(&tokens, &ec.token("rsa", "p")).await, Err(TokenError::Algorithm));
    let (secret, _) = self::secret();
    assert_eq!(player(&secret, &ec.token("ec", "p")).await, Err(TokenError::Algorithm));
    for tokens in [&tokens, &secret] {
        for name in ["none", "None", "NONE", "", "HS1"] {
            let token = Signer::None.sign(&json!({"alg": name, "kid": "ec"}), &claims("p"));
            assert_eq!(player(tokens, &token).await, Err(TokenError::Malformed), "{name}");
        }
    }
}

#[tokio::test]
async fn each_claim_counts() {
    let (tokens, signer) = secret();
    let said = async |change: Value| {
        let mut claims = claims("p1");
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims: Value =
            claims.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        player(&tokens, &signer.sign(&json!({"alg": "HS256"}), &claims)).await
    };
    let claim = |name: &str| Err(TokenError::Claim(name.to_owned()));
    assert_eq!(said(json!({"iss": "https://evil.example"})).await, Err(TokenError::Issuer));
    assert_eq!(said(json!({"iss": null})).await, claim("iss"));
    assert_eq!(said(json!({"aud": "other"})).await, Err(TokenError::Audience));
    assert_eq!(said(json!({"aud": ["other", "my-game"]})).await.unwrap(), "p1");
    assert_eq!(said(json!({"aud": null})).await, claim("aud"));
    assert_eq!(said(json!({"exp": now() - 60})).await, Err(TokenError::Expired));
    assert_eq!(said(json!({"exp": now() - 1})).await.unwrap(), "p1", "within the leeway");
    assert_eq!(said(json!({"exp": null})).await, claim("exp"));
    assert_eq!(said(json!({"exp": "tomorrow"})).await, claim("exp"));
    assert_eq!(said(json!({"nbf": now() + 60})).await, Err(TokenError::NotYet));
    assert_eq!(said(json!({"nbf": now() - 60})).await.unwrap(), "p1");
    assert_eq!(said(json!({"nbf": "yesterday"})).await, claim("nbf"));
    assert_eq!(said(json!({"sub": null})).await, claim("sub"));
    assert_eq!(said(json!({"sub": 7})).await, claim("sub"));
    for bad in ["", "two\nlines", &"x".repeat(129)] {
        assert!(matches!(said(json!({"sub": bad})).await, Err(TokenError::Subject(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let (tokens, signer) = secret();
    let good = signer.token("any", "p1");
    let (signed, _) = good.rsplit_once('.').unwrap();
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "eyJ.eyJ.eyJ",
        "sortie_0123",
        &good[1..],
        signed,
        &format!("{good}.x"),
        &format!(" {good}"),
    ] {
        assert_eq!(player(&tokens, bad).await, Err(TokenError::Malformed), "{bad}");
    }
    assert_eq!(player(&tokens, &format!("{signed}.AAAA")).await, Err(TokenError::Signature));
    let other = Signer::Hmac(vec![1; 32]).token("any", "p1");
    assert_eq!(player(&tokens, &other).await, Err(TokenError::Signature));
    let critical = signer.sign(&json!({"alg": "HS256", "crit": ["b64"], "b64": true}), &claims("p1"));
    assert_eq!(player(&tokens, &critical).await, Err(TokenError::Critical));
    let huge = signer.sign(&json!({"alg": "HS256", "x": "x".repeat(MAX_TOKEN_BYTES)}), &claims("p1"));
    assert_eq!(player(&tokens, &huge).await, Err(TokenError::TooLong(huge.len())));
}

#[tokio::test]
async fn a_file_of_keys_counts_as_it_is_now() {
    let (old, new, folder) = (Signer::ed(), Signer::ed(), tempfile::tempdir().unwrap());
    let tokens = PlayerTokens::new(options(jwks(folder.path(), &[old.jwk("old")]))).unwrap();
    assert!(player(&tokens, &old.token("old", "p")).await.is_ok());
    assert_eq!(player(&tokens, &new.token("new", "p")).await, Err(TokenError::UnknownKey));
    jwks(folder.path(), &[new.jwk("new"), old.jwk("old")]);
    assert!(player(&tokens, &new.token("new", "p")).await.is_ok());
    let unnamed = new.sign(&json!({"alg": "EdDSA"}), &claims("p"));
    assert_eq!(player(&tokens, &unnamed).await, Err(TokenError::AmbiguousKey));
    std::fs::write(folder.path().join("jwks.json"), "half a docum").unwrap();
    assert!(player(&tokens, &old.token("old", "p")).await.is_ok(), "the last good keys stay valid");
    jwks(folder.path(), &[new.jwk("new")]);
    assert_eq!(player(&tokens, &old.token("old", "p")).await, Err(TokenError::UnknownKey));
}

#[test]
fn keys_that_can_verify_nothing_are_refused_at_once() {
    let refused = |keys| PlayerTokens::new(options(keys)).unwrap_err();
    assert!(matches!(refused(TokenKeys::Secret(vec![0; 31].into())), BadTokenOptions::Secret(31)));
    assert!(matches!(refused(TokenKeys::Url("no url at all".into())), BadTokenOptions::Url(_)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    assert!(refused(TokenKeys::File(path.clone())).to_string().ends_with("jwks.json is not there"));
    let secret = json!({"kty": "oct", "k": encode(SECRET)});
    let too_many = vec![Signer::ed().jwk("a"); 101];
    let encrypts = json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": Signer::ed().jwk("a")["x"]});
    for (keys, problem) in
        [(vec![], "no key for"), (vec![secret, encrypts], "no key for"), (too_many, "at most 100")]
    {
        let problem_told = refused(jwks(folder.path(), &keys)).to_string();
        assert!(problem_told.contains(problem), "{problem_told}");
    }
    let debug = format!("{:?}", TokenKeys::Secret(SECRET.to_vec().into()));
    assert_eq!(debug, "Secret(…)");
}
