package main

import (
	"errors"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
	"github.com/fairlead-io/fairlead/sdk"
)

// How to log in: the values of the property auth.
const (
	authAuto  = "auto"
	authUser  = "user"
	authPlain = "plain"
	authAPOP  = "apop"
)

// What becomes of a mail after delivery: the values of after_delivery.
const (
	afterDelete = "delete"
	afterKeep   = "keep"
)

// ports of POP3 (RFC 1939, RFC 8314).
var ports = mail.Ports{Plain: "110", Implicit: "995"}

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	mail.Server   `reach:"address:110,tls=implicit:995"`
	Auth          string `json:"auth" jsonschema:"enum=auto,enum=user,enum=plain,enum=apop,default=auto" jsonschema_description:"How to log in: user (USER and PASS), plain (SASL PLAIN), apop (a digest instead of the password; the server has to know the password itself), or auto: plain if the server offers it, else user."`
	AfterDelivery string `json:"after_delivery" jsonschema:"enum=delete,enum=keep,default=delete" jsonschema_description:"What happens to a delivered mail: delete it, or keep it on the server. A kept mail is known by its UIDL for as long as it is there."`
	Content       string `json:"content" jsonschema:"enum=raw,enum=parts,default=raw" jsonschema_description:"What a message consists of: raw (the mail as it is, header and all) or parts (the decoded MIME parts, the body first). A mail that is no proper MIME travels raw in any case."`
}

var _ sdk.Properties = receiveProperties{}

// Validate finds what the schema cannot say.
func (p receiveProperties) Validate() error {
	errs := p.Problems()
	errs = append(errs,
		mail.OneOf("auth", p.Auth, authAuto, authUser, authPlain, authAPOP),
		mail.OneOf("after_delivery", p.AfterDelivery, afterDelete, afterKeep),
		mail.OneOf("content", p.Content, mail.ContentRaw, mail.ContentParts),
	)
	return errors.Join(errs...)
}
