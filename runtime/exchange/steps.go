package exchange

// Step is one point on a message's way. Before each the node may die, and nothing
// is lost or doubled: that is tested by killing it at every one of them.
type Step string

// The steps of a message, in their order.
const (
	StepOffered   Step = "offered"   // the source has named the item
	StepTaken     Step = "taken"     // its content is here
	StepRouted    Step = "routed"    // its ports are known
	StepIntended  Step = "intended"  // message ID and ports are committed
	StepSending   Step = "sending"   // the next thing is the port's adapter
	StepSent      Step = "sent"      // the port's adapter has confirmed
	StepDelivered Step = "delivered" // that is committed
	StepSettling  Step = "settling"  // every port has it; the next thing is the source
	StepSettled   Step = "settled"   // the source has confirmed
	StepDone      Step = "done"      // that is committed
)

// Steps are all of them, in their order.
var Steps = []Step{
	StepOffered, StepTaken, StepRouted, StepIntended, StepSending, StepSent, StepDelivered, StepSettling, StepSettled, StepDone,
}

// at tells whoever watches that the carriage has come to a step.
func (c *carriage) at(s Step) {
	if f := c.r.e.cfg.Steps; f != nil {
		f(s)
	}
}
