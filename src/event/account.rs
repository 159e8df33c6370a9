//! Bodies about an account: its extensions, directory, devices and numbers.

use super::id::{DeviceId, PhoneNumberId, SiteId};
use super::macros::{body, list_body, open_enum};
use crate::ids::{AccountId, ExtensionId};

open_enum! {
    /// A change of an extension or of a directory entry.
    pub enum ChangeType {
        Create = "Create",
        Update = "Update",
        Delete = "Delete",
    }

    /// The part of an extension that changed: the resource to read again.
    pub enum ExtensionHint {
        AccountSettings = "AccountSettings",
        AccountStatus = "AccountStatus",
        AnsweringRules = "AnsweringRules",
        CompanyNumbers = "CompanyNumbers",
        DialingPlan = "DialingPlan",
        ExtensionInfo = "ExtensionInfo",
        Features = "Features",
        Limits = "Limits",
        Permissions = "Permissions",
        ProfileImage = "ProfileImage",
        VideoConfiguration = "VideoConfiguration",
        CallQueueMembersChange = "CallQueueMembersChange",
    }

    /// Status of an extension.
    pub enum ExtensionStatus {
        Enabled = "Enabled",
        Disabled = "Disabled",
        NotActivated = "NotActivated",
        Frozen = "Frozen",
        Unassigned = "Unassigned",
        Unknown = "Unknown",
    }

    /// The use of a directory number.
    pub enum DirectoryUsage {
        MobileNumber = "MobileNumber",
        ContactNumber = "ContactNumber",
        DirectNumber = "DirectNumber",
        ForwardedNumber = "ForwardedNumber",
    }

    /// The kinds of calls that a number accepts.
    pub enum PhoneNumberType {
        VoiceFax = "VoiceFax",
        FaxOnly = "FaxOnly",
        VoiceOnly = "VoiceOnly",
        Voice = "Voice",
        Fax = "Fax",
    }

    /// A change of a number.
    pub enum NumberEventType {
        Created = "Created",
        Updated = "Updated",
        Deleted = "Deleted",
    }
}

list_body! {
    /// Extensions were added, changed or removed. The flat form for one extension is read as a list
    /// of one.
    pub struct ExtensionList {
        /// The extensions.
        pub extensions: Vec<ExtensionChange> = "extensions",
    }

    /// Entries of the company directory changed. The flat form for one entry is read as a list of
    /// one.
    pub struct CompanyDirectory {
        /// The entries.
        pub contacts: Vec<DirectoryContact> = "contacts",
    }
}

body! {
    /// What happened to an extension.
    pub struct ExtensionChange {
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The kind of change.
        pub event_type: Option<ChangeType> = "eventType",
        /// The changed parts; only for updates.
        pub hints: Vec<ExtensionHint> = "hints",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// A list of this extension changed: read it again.
    pub struct ExtensionRef {
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// An entry of the company's directory.
    pub struct DirectoryContact {
        /// The extension.
        pub id: Option<ExtensionId> = "id",
        /// The kind of change; only updates have been observed.
        pub event_type: Option<ChangeType> = "eventType",
        /// The extension's type, such as `User` or `Department`.
        pub contact_type: Option<String> = "type",
        /// The extension's status.
        pub status: Option<ExtensionStatus> = "status",
        /// First name.
        pub first_name: Option<String> = "firstName",
        /// Last name.
        pub last_name: Option<String> = "lastName",
        /// Name of a non-person.
        pub name: Option<String> = "name",
        /// Department.
        pub department: Option<String> = "department",
        /// E-mail address.
        pub email: Option<String> = "email",
        /// The short number.
        pub extension_number: Option<String> = "extensionNumber",
        /// The account.
        pub account: Option<DirectoryAccount> = "account",
        /// The numbers.
        pub phone_numbers: Vec<DirectoryPhoneNumber> = "phoneNumbers",
        /// The site.
        pub site: Option<DirectorySite> = "site",
        /// The picture.
        pub profile_image: Option<ProfileImage> = "profileImage",
    }

    /// The account of an entry.
    pub struct DirectoryAccount {
        /// Its id.
        pub id: Option<AccountId> = "id",
    }

    /// A number of an entry.
    pub struct DirectoryPhoneNumber {
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
        /// Its use.
        pub usage_type: Option<DirectoryUsage> = "usageType",
        /// The kinds of calls it accepts.
        pub number_type: Option<PhoneNumberType> = "type",
        /// Whether it is hidden from the directory.
        pub hidden: Option<bool> = "hidden",
    }

    /// The site of an entry.
    pub struct DirectorySite {
        /// Its id; may be `main-site`.
        pub id: Option<SiteId> = "id",
        /// Its name.
        pub name: Option<String> = "name",
    }

    /// The picture of an entry.
    pub struct ProfileImage {
        /// Its URL.
        pub uri: Option<String> = "uri",
        /// Changes with the picture.
        pub etag: Option<String> = "etag",
    }

    /// The emergency address of a device changed.
    pub struct EmergencyAddress {
        /// The device's extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The device.
        pub device_id: Option<DeviceId> = "deviceId",
    }

    /// A number of the contact centre was added, changed or removed.
    pub struct ContactCenterPhoneNumber {
        /// The kind of change.
        pub event_type: Option<NumberEventType> = "eventType",
        /// The number.
        pub phone_number_info: Option<ContactCenterNumber> = "phoneNumberInfo",
    }

    /// A number of the contact centre.
    pub struct ContactCenterNumber {
        /// Its address in the API.
        pub uri: Option<String> = "uri",
        /// Its id.
        pub id: Option<PhoneNumberId> = "id",
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
        /// Its payment type, such as `Local` or `TollFree`.
        pub payment_type: Option<String> = "paymentType",
        /// Its location.
        pub location: Option<String> = "location",
        /// The kinds of calls it accepts.
        pub number_type: Option<PhoneNumberType> = "type",
        /// Its use: `ContactCenterNumber`.
        pub usage_type: Option<String> = "usageType",
        /// Its status, such as `Normal`.
        pub status: Option<String> = "status",
        /// The provider of the contact centre.
        pub contact_center_provider: Option<ContactCenterProvider> = "contactCenterProvider",
    }

    /// The provider of a contact centre.
    pub struct ContactCenterProvider {
        /// Its id.
        pub id: Option<String> = "id",
        /// Its name.
        pub name: Option<String> = "name",
    }
}
