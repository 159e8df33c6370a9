//! The user of a client.

use http::Method;
use serde::Deserialize;

use super::client::Client;
use crate::error::Result;
use crate::event::PersonId;
use crate::ids::{AccountId, ExtensionId};

/// The user that a [`Client`] is logged in as; from [`Client::me`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", from = "Extension")]
#[non_exhaustive]
pub struct CurrentUser {
    /// The user's extension.
    pub id: ExtensionId,
    /// The account.
    pub account_id: Option<AccountId>,
    /// The short number inside the account: `101`.
    pub extension_number: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
}

impl CurrentUser {
    /// The user's id in Team Messaging, where it has the same digits: the creator of the posts that
    /// this login sends.
    #[must_use]
    pub fn person_id(&self) -> PersonId {
        self.id.as_str().into()
    }
}

/// `GET …/extension/~`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extension {
    id: ExtensionId,
    #[serde(default)]
    account: Option<Account>,
    #[serde(default)]
    extension_number: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    contact: Option<Contact>,
}

#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    id: Option<AccountId>,
}

#[derive(Deserialize)]
struct Contact {
    #[serde(default)]
    email: Option<String>,
}

impl From<Extension> for CurrentUser {
    fn from(read: Extension) -> Self {
        Self {
            id: read.id,
            account_id: read.account.and_then(|account| account.id),
            extension_number: read.extension_number,
            name: read.name,
            email: read.contact.and_then(|contact| contact.email),
        }
    }
}

impl Client {
    /// The user that this client is logged in as (`GET …/account/~/extension/~`). Needs the app
    /// permission `ReadAccounts`.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](super::RequestBuilder::send).
    pub async fn me(&self) -> Result<CurrentUser> {
        self.request(Method::GET, "/restapi/v1.0/account/~/extension/~").send().await?.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_from_a_full_and_from_a_minimal_extension() {
        let full = r#"{ "id": 62264425008, "extensionNumber": "101", "name": "Ana", "account": { "id": "37439510" },
            "contact": { "email": "ana@example.com" }, "status": "Enabled" }"#;
        let user: CurrentUser = serde_json::from_str(full).unwrap();
        assert_eq!((user.id.as_str(), user.person_id().as_str()), ("62264425008", "62264425008"));
        assert_eq!(user.account_id, Some("37439510".into()));
        let texts = [&user.extension_number, &user.name, &user.email].map(Option::as_deref);
        assert_eq!(texts, [Some("101"), Some("Ana"), Some("ana@example.com")]);
        let minimal: CurrentUser = serde_json::from_str(r#"{ "id": "1", "name": null, "contact": {} }"#).unwrap();
        assert_eq!((minimal.id.as_str(), minimal.name, minimal.email, minimal.account_id), ("1", None, None, None));
        assert!(serde_json::from_str::<CurrentUser>(r#"{ "name": "Ana" }"#).is_err());
    }
}
