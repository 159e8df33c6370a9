//! The login that the process's environment describes.

use std::ffi::OsString;

use super::builder::OAuthBuilder;
use super::oauth::OAuth;
use crate::error::{Error, Result};
use crate::http::server_url;

const SERVER_URL: &str = "RC_SERVER_URL";
const CLIENT_ID: &str = "RC_APP_CLIENT_ID";
const CLIENT_SECRET: &str = "RC_APP_CLIENT_SECRET";
const USER_JWT: &str = "RC_USER_JWT";

impl OAuth {
    /// The JWT login that the environment describes, with the names that RingCentral's samples use:
    ///
    /// | Variable | Value |
    /// | --- | --- |
    /// | `RC_APP_CLIENT_ID` | the app's client id |
    /// | `RC_APP_CLIENT_SECRET` | the app's client secret |
    /// | `RC_USER_JWT` | the user's JWT |
    /// | `RC_SERVER_URL` | the server; default production, `https://platform.ringcentral.com` |
    ///
    /// An empty variable counts as unset, except for the server's: credentials do not go to production because a variable
    /// was mistyped. Spaces and line breaks around a value are ignored.
    /// Returns the builder, to add a [`store`](OAuthBuilder::store), for example. Without further
    /// settings, [`Client::from_env`](crate::Client::from_env) is shorter.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the variables that are missing, or the
    /// one whose value is invalid; never a value.
    pub fn from_env() -> Result<OAuthBuilder> {
        from_variables(|name| std::env::var_os(name))
    }
}

fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<OAuthBuilder> {
    let read = |name: &'static str| read(name, variable(name));
    let server = read(SERVER_URL)?;
    if server.is_none() && variable(SERVER_URL).is_some() {
        return Err(Error::config(format!("{SERVER_URL} is empty: name the server, or unset it for production")));
    }
    let (id, secret, jwt) = match (read(CLIENT_ID)?, read(CLIENT_SECRET)?, read(USER_JWT)?) {
        (Some(id), Some(secret), Some(jwt)) => (id, secret, jwt),
        (id, secret, jwt) => {
            let read = [(CLIENT_ID, id), (CLIENT_SECRET, secret), (USER_JWT, jwt)];
            let missing: Vec<&str> =
                read.into_iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
            return Err(Error::config(format!("not set in the environment: {}", missing.join(", "))));
        }
    };
    let oauth = OAuth::jwt(id, jwt).client_secret(secret);
    let Some(server) = server else { return Ok(oauth) };
    server_url(&server).map_err(|error| Error::config(format!("{SERVER_URL} is invalid: {error}")))?;
    Ok(oauth.server(server))
}

/// A variable's value; `None` if it is empty. Its text is not part of any error.
fn read(name: &'static str, value: Option<OsString>) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    let text = value.into_string().map_err(|_| Error::config(format!("{name} is not valid UTF-8")))?;
    let text = text.trim();
    // `docker run --env-file` and some shells pass the quotes of a file on.
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\'')) {
        let what = match bad {
            '"' | '\'' => "a quotation mark",
            bad if bad.is_whitespace() => "a space or a line break",
            _ => "a character other than visible ASCII",
        };
        return Err(Error::config(format!("{name} contains {what}")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenProvider as _;
    use crate::error::ErrorKind;

    const ALL: [(&str, &str); 4] = [
        (SERVER_URL, "http://127.0.0.1:9"),
        (CLIENT_ID, "the-id"),
        (CLIENT_SECRET, "the-secret"),
        (USER_JWT, "head.body.sign"),
    ];

    fn from(set: &[(&str, &str)]) -> Result<OAuthBuilder> {
        from_variables(|name| set.iter().rev().find(|(set, _)| *set == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn a_login_is_read_from_the_environment() {
        let server = |set: &[(&str, &str)]| from(set).unwrap().build().unwrap().server().map(|url| url.to_string());
        assert_eq!(server(&ALL).as_deref(), Some("http://127.0.0.1:9/"));
        let production = Some("https://platform.ringcentral.com/");
        assert_eq!(server(&ALL[1..]).as_deref(), production);
        assert!(from(&[&ALL[..3], &[(USER_JWT, " head.body.sign\r\n")]].concat()).is_ok());
    }

    #[test]
    fn an_invalid_variable_is_named_and_its_value_is_not_shown() {
        for (name, value, message) in [
            (USER_JWT, "", "not set in the environment: RC_USER_JWT"),
            (CLIENT_ID, " ", "not set in the environment: RC_APP_CLIENT_ID"),
            (CLIENT_SECRET, "\"hunter2\"", "RC_APP_CLIENT_SECRET contains a quotation mark"),
            (CLIENT_SECRET, "'hunter2'", "RC_APP_CLIENT_SECRET contains a quotation mark"),
            (USER_JWT, "hunter2 hunter2", "RC_USER_JWT contains a space or a line break"),
            (CLIENT_ID, "hunter2\u{1b}", "RC_APP_CLIENT_ID contains a character other than visible ASCII"),
            (CLIENT_ID, "hünter2", "RC_APP_CLIENT_ID contains a character other than visible ASCII"),
            (SERVER_URL, " ", "RC_SERVER_URL is empty: "),
            (SERVER_URL, "hunter2", "RC_SERVER_URL is invalid: "),
            (SERVER_URL, "https://hunter2/path", "RC_SERVER_URL is invalid: "),
        ] {
            let error = from(&[&ALL[..], &[(name, value)]].concat()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name}");
            let shown = error.to_string();
            assert!(shown.starts_with(message), "{name}: {shown}");
            assert!(!format!("{shown} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn all_missing_variables_are_named() {
        let error = from(&[]).unwrap_err().to_string();
        assert_eq!(error, "not set in the environment: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let error = from_variables(|_| Some(OsString::from_vec(vec![0xff]))).unwrap_err();
        assert_eq!(error.to_string(), "RC_SERVER_URL is not valid UTF-8");
    }
}
