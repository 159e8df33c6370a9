//! The table of events.

/// Passes the rows to the macro `$each`. `kind`, `typed`, `catalog` and `constructors` make of a row: the
/// [`EventKind`](super::EventKind) and its row in the docs, the variant of [`Event`](super::Event) and its decoding, and
/// for each filter the row of the catalog and the constructors of [`EventFilter`](super::EventFilter).
///
/// A row is
///
/// ```text
/// /// What it says.
/// Kind(Body) [flat] {
///     permission: "Name",                  // or: none
///     gap: Quality "what to ask for",
///     scope constructor(arg: Type) [/ constructor_with(Query)] = "template";
///     ...
/// }
/// ```
///
/// `flat` means that the fields are beside the envelope's. The query of a template affects routing
/// only if two templates share a path.
macro_rules! event_table {
    ($each:ident) => {
        $each! {
            /// A message store changed: a hint, not the message.
            MessageStore(MessageStore) {
                permission: "ReadMessages",
                gap: Complete "message-sync, incremental",
                extension message_store() / message_store_with(MessageStoreQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/message-store";
            }

            /// A text message was received, in full.
            InstantMessage(Message) {
                permission: "ReadMessages or SMS",
                gap: Complete "message-sync, incremental",
                extension instant_message()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/message-store/instant?type=SMS";
            }

            /// A fax was received, in full.
            FaxMessage(Message) {
                permission: "ReadMessages",
                gap: Complete "message-sync, incremental",
                extension fax() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/fax?direction=Inbound";
            }

            /// A voicemail was left, in full.
            VoicemailMessage(Message) {
                permission: "ReadMessages",
                gap: Complete "message-sync, incremental",
                extension voicemail() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/voicemail";
            }

            /// A mobile push about an inbound message.
            InboundMessagePush(InboundMessagePush) flat {
                permission: none,
                gap: Partial "message-sync finds the message",
                extension inbound_message_push()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/inbound-messages?badge=true";
            }

            /// Presence of an extension, or of those it monitors, changed.
            ExtensionPresence(Presence) {
                permission: "ReadPresence",
                gap: StateOnly "the extension's presence",
                extension presence() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence";
                extension line_presence()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence/line/presence";
                extension favorite_presence()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/favorite/presence";
            }

            /// The same with the active calls; replaces the simple one.
            DetailedExtensionPresence(Presence) {
                permission: "ReadPresence",
                gap: StateOnly "the extension's presence",
                extension detailed_presence() / detailed_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence?detailedTelephonyState=true";
                extension detailed_line_presence() / detailed_line_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence/line/presence?detailedTelephonyState=true";
                extension detailed_favorite_presence() / detailed_favorite_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/favorite/presence?detailedTelephonyState=true";
            }

            /// The same with SIP data of the active calls; replaces both others.
            DetailedExtensionPresenceWithSip(Presence) {
                permission: "ReadPresence",
                gap: StateOnly "the extension's presence",
                extension sip_presence() / sip_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence?detailedTelephonyState=true&sipData=true";
                extension sip_line_presence() / sip_line_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence/line/presence?detailedTelephonyState=true&sipData=true";
                extension sip_favorite_presence() / sip_favorite_presence_with(PresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/favorite/presence?detailedTelephonyState=true&sipData=true";
            }

            /// Presence of an extension of the account changed. Such events may also arrive under the
            /// extension's URI, as [`ExtensionPresence`](Self::ExtensionPresence).
            AccountPresence(Presence) {
                permission: "ReadPresence (the guide says ReadAccounts: unverified)",
                gap: StateOnly "the account's presence, page by page",
                account account_presence() / account_presence_with(AccountPresenceQuery)
                    = "/restapi/v1.0/account/{accountId}/presence";
            }

            /// Which of the monitored lines changed.
            ExtensionPresenceLine(PresenceLine) {
                permission: "ReadPresence",
                gap: StateOnly "presence of the monitored lines (unverified)",
                extension presence_line() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence/line";
            }

            /// Do-not-disturb of an extension changed.
            ExtensionDnd(ExtensionDnd) {
                permission: "ReadAccounts",
                gap: StateOnly "the extension's presence",
                extension dnd() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/presence/dnd";
            }

            /// Members of a call queue started or stopped accepting its calls.
            CallQueueMemberPresence(QueuePresence) {
                permission: "ReadPresence",
                gap: StateOnly "presence of the queue's members, or of the extension's queues",
                account call_queue_presence(group: CallQueueId)
                    = "/restapi/v1.0/account/{accountId}/call-queues/{groupId}/presence";
                extension extension_call_queue_presence()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/call-queue-presence";
            }

            /// A call changed. Such events may also arrive under the extension's URI, as
            /// [`ExtensionTelephonySessions`](Self::ExtensionTelephonySessions).
            AccountTelephonySessions(TelephonySession) {
                permission: "CallControl",
                gap: Partial "live sessions by id, active-calls, then call-log-sync: the outcome, not the steps",
                account account_telephony_sessions() / account_telephony_sessions_with(TelephonyQuery)
                    = "/restapi/v1.0/account/{accountId}/telephony/sessions";
            }

            /// A call of an extension changed.
            ExtensionTelephonySessions(TelephonySession) {
                permission: "CallControl",
                gap: Partial "live sessions by id, active-calls, then call-log-sync: the outcome, not the steps",
                extension telephony_sessions() / telephony_sessions_with(TelephonyQuery)
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/telephony/sessions";
            }

            /// A call was missed.
            MissedCall(CallPush) flat {
                permission: "ReadCallLog (unverified)",
                gap: Complete "call-log-sync with statusGroup=Missed, 30 s after the call",
                extension missed_calls() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/missed-calls";
            }

            /// A call started or stopped ringing; for mobile apps.
            IncomingCall(CallPush) flat {
                permission: none,
                gap: Nothing "active-calls and presence show only ongoing calls",
                extension incoming_call_pickup()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/incoming-call-pickup";
                extension start_ring() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/start-ring";
                extension stop_ring() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/stop-ring";
                extension call_answered_elsewhere()
                    = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/telephony?action=call-answered-elsewhere";
            }

            /// A post was added, changed or removed in a chat of this user.
            TeamMessagingPost(Post) {
                permission: "TeamMessaging",
                gap: Partial "recent chats and their posts: added and changed ones; removed ones by their absence",
                service team_posts() = "/team-messaging/v1/posts";
                service glip_posts() = "/restapi/v1.0/glip/posts";
                extension extension_glip_posts() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/glip/posts";
            }

            /// A chat of this user changed, or this user joined or left it.
            TeamMessagingChat(Chat) {
                permission: "TeamMessaging",
                gap: Partial "the list of chats, compared: who joined, left, was renamed",
                service team_chats() = "/team-messaging/v1/chats";
                service team_groups() = "/team-messaging/v1/groups";
                service glip_groups() = "/restapi/v1.0/glip/groups";
                extension extension_glip_groups() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/glip/groups";
            }

            /// An incoming webhook of a chat, through which an integration posts, was created, changed or deleted. This is
            /// not a webhook that receives events.
            TeamMessagingWebhook(TeamWebhook) {
                permission: "TeamMessaging (unverified)",
                gap: StateOnly "the list of webhooks, compared",
                service glip_webhooks() = "/restapi/v1.0/glip/webhooks";
            }

            /// A batch of high-volume messages changed its status.
            A2pBatch(A2pBatch) {
                permission: "A2PSMS (the guide says ReadAccounts: unverified)",
                gap: StateOnly "batches by dateFrom",
                account a2p_batches() / a2p_batches_with(BatchQuery) = "/restapi/v1.0/account/{accountId}/a2p-sms/batches";
                account a2p_batch(batch: BatchId) = "/restapi/v1.0/account/{accountId}/a2p-sms/batches/{batchId}";
            }

            /// A high-volume message was received, or a sent one changed its status.
            A2pMessage(A2pMessage) {
                permission: "A2PSMS",
                gap: Partial "messages by dateFrom, which is creation time: a changed status must be read again",
                account a2p_messages() / a2p_messages_with(A2pMessageQuery)
                    = "/restapi/v1.0/account/{accountId}/a2p-sms/messages";
            }

            /// A recipient opted out of a sender's messages, or opted in again.
            A2pOptOut(A2pOptOut) {
                permission: "A2PSMS",
                gap: StateOnly "the list of opt-outs",
                account a2p_opt_outs() / a2p_opt_outs_with(OptOutQuery)
                    = "/restapi/v1.0/account/{accountId}/a2p-sms/opt-outs";
            }

            /// A batch of messages changed its status (second API version).
            SmsV2Batch(SmsV2Batch) {
                permission: "SMS",
                gap: Nothing "none published",
                extension sms_v2_batches() / sms_v2_batches_with(BatchQuery)
                    = "/restapi/v2/accounts/{accountId}/extensions/{extensionId}/sms/batches";
            }

            /// A message was received, or a sent one changed its status (second API version).
            SmsV2Message(SmsV2Message) {
                permission: "SMS",
                gap: Nothing "none published",
                extension sms_v2_messages() / sms_v2_messages_with(SmsV2MessageQuery)
                    = "/restapi/v2/accounts/{accountId}/extensions/{extensionId}/sms/messages";
            }

            /// Recipients changed their consent.
            SmsConsents(SmsConsents) {
                permission: "SMS",
                gap: StateOnly "the list of consents, by lastModifiedTime",
                account sms_consents() = "/restapi/v2/accounts/{accountId}/sms/consents";
            }

            /// Message threads changed: a trigger for their sync.
            MessageThreads(ThreadsChange) {
                permission: "SMS",
                gap: Complete "message-threads/sync",
                account message_threads() = "/restapi/v1.0/account/{accountId}/message-threads/sync";
            }

            /// Entries of message threads changed: a trigger for their sync.
            MessageThreadEntries(ThreadsChange) {
                permission: "SMS",
                gap: Complete "message-threads/entries/sync",
                account message_thread_entries() = "/restapi/v1.0/account/{accountId}/message-threads/entries/sync";
            }

            /// Extensions of the account were added, changed or removed.
            ExtensionList(ExtensionList) {
                permission: "ReadAccounts",
                gap: StateOnly "the list of extensions, compared; the hints are lost",
                account extension_list() = "/restapi/v1.0/account/{accountId}/extension";
            }

            /// An extension changed or was removed.
            ExtensionInfo(ExtensionChange) {
                permission: "ReadAccounts",
                gap: StateOnly "the extension, compared; the hints are lost",
                extension extension_info() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}";
            }

            /// The favorites of an extension changed.
            ExtensionFavorites(ExtensionRef) {
                permission: "ReadContacts",
                gap: StateOnly "the list of favorites, compared",
                extension favorites() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/favorite";
            }

            /// The permissions that others have on an extension changed.
            ExtensionGrants(ExtensionRef) {
                permission: "ReadAccounts",
                gap: StateOnly "the list of grants, compared",
                extension grants() = "/restapi/v1.0/account/{accountId}/extension/{extensionId}/grant";
            }

            /// Entries of the company's directory changed.
            CompanyDirectory(CompanyDirectory) {
                permission: "ReadAccounts",
                gap: StateOnly "directory/entries with If-None-Match, compared",
                account directory_entries() = "/restapi/v1.0/account/{accountId}/directory/entries";
                account directory_contacts() = "/restapi/v1.0/account/{accountId}/directory/contacts";
            }

            /// The emergency address of a device changed.
            EmergencyAddress(EmergencyAddress) {
                permission: "ReadAccounts",
                gap: StateOnly "the device",
                account emergency_address(device: DeviceId)
                    = "/restapi/v1.0/account/{accountId}/device/{deviceId}/emergency-address";
            }

            /// A number of the contact centre was added, changed or removed.
            ContactCenterPhoneNumber(ContactCenterPhoneNumber) {
                permission: "ReadAccounts",
                gap: StateOnly "the account's phone numbers",
                account contact_center_phone_numbers()
                    = "/restapi/v1.0/account/{accountId}/phone-number?usageType=ContactCenterNumber";
            }

            /// This subscription is about to expire. Cannot be a subscription's only filter.
            ///
            /// `threshold` is how long before expiry it starts, at most half the lifetime; `interval` is
            /// how often it is repeated, at most half the threshold.
            SubscriptionReminder(SubscriptionReminder) {
                permission: none,
                gap: StateOnly "the subscription",
                service subscription_reminder(threshold: Seconds, interval: Seconds)
                    = "/restapi/v1.0/subscription/~?threshold={threshold}&interval={interval}";
            }

            /// Insights of a recorded call are available.
            RingSenseInsights(RingSenseInsights) {
                permission: "RingSense",
                gap: Partial "pbx: each recorded call of the log; rcv: meetings that the app names; other domains: nothing",
                account ring_sense_insights(domain: RingSenseDomain)
                    = "/ai/ringsense/v1/public/accounts/{accountId}/domains/{domain}/insights";
            }

            /// A webinar was created, changed or removed. Webinars have a separate subscription API, for
            /// webhooks only; their bodies are not published.
            WebinarSession(Undocumented) {
                permission: none,
                gap: Nothing "none published",
                service webinar_sessions() / webinar_sessions_with(WebinarQuery)
                    = "/webinar/configuration/v1/company/sessions";
            }

            /// A webinar began, ended, or changed its state otherwise.
            WebinarSessionState(Undocumented) {
                permission: none,
                gap: Nothing "none published",
                service webinar_session_states() / webinar_session_states_with(WebinarQuery)
                    = "/webinar/runtime/v1/company/sessions/state";
            }

            /// Registration for a webinar opened or closed.
            WebinarRegistrationState(Undocumented) {
                permission: none,
                gap: Nothing "none published",
                service webinar_registration_states() / webinar_registration_states_with(WebinarQuery)
                    = "/webinar/registration/v1/company/sessions/state";
            }

            /// A person registered for a webinar or cancelled the registration.
            WebinarRegistrant(Undocumented) {
                permission: none,
                gap: Nothing "none published",
                service webinar_registrants() / webinar_registrants_with(WebinarQuery)
                    = "/webinar/registration/v1/company/sessions/registrants";
            }
        }
    };
}
pub(super) use event_table;
