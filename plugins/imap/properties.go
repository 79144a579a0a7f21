package main

import (
	"errors"
	"strings"
	"unicode"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
	"github.com/fairlead-io/fairlead/sdk"
)

// Which mails are taken: the values of the property search.
const (
	searchUnseen = "unseen"
	searchAll    = "all"
)

// What becomes of a mail after delivery: the values of after_delivery.
const (
	afterMark   = "mark"
	afterDelete = "delete"
	afterKeep   = "keep"
)

// ports of IMAP (RFC 3501, RFC 8314).
var ports = mail.Ports{Plain: "143", Implicit: "993"}

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	mail.Server   `reach:"address:143,tls=implicit:993"`
	Mailbox       string `json:"mailbox" jsonschema:"minLength=1,default=INBOX" jsonschema_description:"Mailbox to read, by its full name with the server's own separator."`
	Search        string `json:"search" jsonschema:"enum=unseen,enum=all,default=unseen" jsonschema_description:"Which mails to take: unseen (not marked as seen, by whomever) or all. Mails marked as deleted are never taken."`
	AfterDelivery string `json:"after_delivery" jsonschema:"enum=mark,enum=delete,enum=keep,default=mark" jsonschema_description:"What happens to a delivered mail: mark it as seen (only with search: unseen), delete it, or keep it as it is. A kept mail is known for as long as it is listed."`
	Content       string `json:"content" jsonschema:"enum=raw,enum=parts,default=raw" jsonschema_description:"What a message consists of: raw (the mail as it is, header and all) or parts (the decoded MIME parts, the body first). A mail that is no proper MIME travels raw in any case."`
}

var _ sdk.Properties = receiveProperties{}

// Validate finds what the schema cannot say.
func (p receiveProperties) Validate() error {
	errs := p.Problems()
	errs = append(errs,
		mail.OneOf("search", p.Search, searchUnseen, searchAll),
		mail.OneOf("after_delivery", p.AfterDelivery, afterMark, afterDelete, afterKeep),
		mail.OneOf("content", p.Content, mail.ContentRaw, mail.ContentParts),
	)
	if p.Mailbox == "" || strings.ContainsFunc(p.Mailbox, unicode.IsControl) {
		errs = append(errs, mail.Problem("mailbox", "is empty or contains a control character"))
	}
	if p.AfterDelivery == afterMark && p.Search == searchAll {
		errs = append(errs, mail.Problem("after_delivery", "mark has no effect with search: all, which takes marked mails again; want search: unseen, or after_delivery: delete or keep"))
	}
	return errors.Join(errs...)
}
