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

    /// The type of an extension.
    pub enum ExtensionType {
        User = "User",
        /// A call queue.
        Department = "Department",
        Announcement = "Announcement",
        Voicemail = "Voicemail" | "VoiceMail",
        SharedLinesGroup = "SharedLinesGroup",
        PagingOnly = "PagingOnly" | "PagingOnlyGroup",
        ParkLocation = "ParkLocation",
        IvrMenu = "IvrMenu",
        Limited = "Limited",
        ApplicationExtension = "ApplicationExtension",
        Site = "Site",
        Bot = "Bot",
        Room = "Room",
        ProxyAdmin = "ProxyAdmin",
        DelegatedLinesGroup = "DelegatedLinesGroup",
        GroupCallPickup = "GroupCallPickup",
        External = "External",
        RoomConnector = "RoomConnector",
        FaxUser = "FaxUser",
        VirtualUser = "VirtualUser",
        DigitalUser = "DigitalUser",
        Unknown = "Unknown",
    }

    /// The use of a number.
    pub enum NumberUsage {
        MobileNumber = "MobileNumber",
        ContactNumber = "ContactNumber",
        DirectNumber = "DirectNumber",
        ForwardedNumber = "ForwardedNumber",
        PartnerBusinessMobileNumber = "PartnerBusinessMobileNumber",
        MainCompanyNumber = "MainCompanyNumber",
        AdditionalCompanyNumber = "AdditionalCompanyNumber",
        CompanyNumber = "CompanyNumber",
        CompanyFaxNumber = "CompanyFaxNumber",
        ForwardedCompanyNumber = "ForwardedCompanyNumber",
        ContactCenterNumber = "ContactCenterNumber",
        ConferencingNumber = "ConferencingNumber",
        MeetingsNumber = "MeetingsNumber",
        BusinessMobileNumber = "BusinessMobileNumber",
        FmcBusinessMobileNumber = "FmcBusinessMobileNumber",
        InventoryFmcBusinessMobileNumber = "InventoryFmcBusinessMobileNumber",
        InventoryMobileNumber = "InventoryMobileNumber",
        IntegrationNumber = "IntegrationNumber",
        NumberPool = "NumberPool",
        NumberPoolPartnerBusinessMobileNumber = "NumberPoolPartnerBusinessMobileNumber",
        NumberStorage = "NumberStorage",
        Elin = "ELIN",
    }

    /// How a number is paid for.
    pub enum PaymentType {
        /// Forwarded from another provider.
        External = "External",
        TollFree = "TollFree",
        Local = "Local",
        Mobile = "Mobile",
        BusinessMobileNumberProvider = "BusinessMobileNumberProvider",
        ExternalNumberProvider = "ExternalNumberProvider",
        ExternalNumberProviderTollFree = "ExternalNumberProviderTollFree",
    }

    /// Whether a number can be used.
    pub enum NumberStatus {
        Normal = "Normal",
        Pending = "Pending",
        PortedIn = "PortedIn",
        Temporary = "Temporary",
        Unknown = "Unknown",
    }

    /// Whether a number can send text messages.
    pub enum SmsAvailability {
        Active = "Active",
        Inactive = "Inactive",
        Disabled = "Disabled",
        Banned = "Banned",
        Suspended = "Suspended",
        Deprovisioning = "Deprovisioning",
        InboundOnly = "InboundOnly",
        Unknown = "Unknown",
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
        /// The entry's version after the change.
        pub new_etag: Option<String> = "newEtag",
        /// The entry's version before the change: if it differs from the version that you have, read the
        /// entry again.
        pub old_etag: Option<String> = "oldEtag",
        /// The extension's type.
        pub contact_type: Option<ExtensionType> = "type",
        /// The extension's status.
        pub status: Option<ExtensionStatus> = "status",
        /// First name.
        pub first_name: Option<String> = "firstName",
        /// Last name.
        pub last_name: Option<String> = "lastName",
        /// Name of a non-person.
        pub name: Option<String> = "name",
        /// Job title.
        pub job_title: Option<String> = "jobTitle",
        /// Whether the entry is hidden from the directory.
        pub hidden: Option<bool> = "hidden",
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
        /// Fields that the company defined.
        pub custom_fields: Vec<CustomField> = "customFields",
        /// The system that an external contact comes from.
        pub integration: Option<DirectoryIntegration> = "integration",
    }

    /// A field that a company defined.
    pub struct CustomField {
        /// Its id.
        pub id: Option<String> = "id",
        /// Its name.
        pub name: Option<String> = "name",
        /// Its value.
        pub value: Option<String> = "value",
    }

    /// The system that an external contact comes from.
    pub struct DirectoryIntegration {
        /// Its id.
        pub id: Option<String> = "id",
        /// The id of its type.
        pub type_id: Option<String> = "typeId",
        /// Its type.
        pub integration_type: Option<String> = "type",
        /// Its name.
        pub display_name: Option<String> = "displayName",
        /// How its calls are routed.
        pub routing_type: Option<String> = "routingType",
        /// Its outbound edge.
        pub outbound_edge_id: Option<String> = "outboundEdgeId",
    }

    /// The account of an entry.
    pub struct DirectoryAccount {
        /// Its id.
        pub id: Option<AccountId> = "id",
        /// The company's name.
        pub company_name: Option<String> = "companyName",
        /// The name of the federation that it belongs to.
        pub federated_name: Option<String> = "federatedName",
        /// Its main number.
        pub main_number: Option<DirectoryPhoneNumber> = "mainNumber",
    }

    /// A number of an entry.
    pub struct DirectoryPhoneNumber {
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
        /// Its use.
        pub usage_type: Option<NumberUsage> = "usageType",
        /// The kinds of calls it accepts.
        pub number_type: Option<PhoneNumberType> = "type",
        /// Whether it is hidden from the directory.
        pub hidden: Option<bool> = "hidden",
        /// The number as a person would write it.
        pub formatted_phone_number: Option<String> = "formattedPhoneNumber" | "formatted",
        /// The number in international form.
        pub e164: Option<String> = "e164",
        /// A name of the number.
        pub label: Option<String> = "label",
        /// Whether it is the main number of its owner.
        pub primary: Option<bool> = "primary",
        /// Whether it can send text messages.
        pub sms_availability_status: Option<SmsAvailability> = "smsAvailabilityStatus",
        /// The campaign of its text messages.
        pub sms_campaign_id: Option<String> = "smsCampaignId",
    }

    /// The site of an entry.
    pub struct DirectorySite {
        /// Its id; may be `main-site`.
        pub id: Option<SiteId> = "id",
        /// Its name.
        pub name: Option<String> = "name",
        /// Its code.
        pub code: Option<String> = "code",
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
        /// How it is paid for.
        pub payment_type: Option<PaymentType> = "paymentType",
        /// Its location.
        pub location: Option<String> = "location",
        /// The kinds of calls it accepts.
        pub number_type: Option<PhoneNumberType> = "type",
        /// Its use: [`NumberUsage::ContactCenterNumber`].
        pub usage_type: Option<NumberUsage> = "usageType",
        /// Whether it can be used.
        pub status: Option<NumberStatus> = "status",
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
