package exchange

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// sinkLink is a handler that answers every send at once.
type sinkLink struct {
	ports *Ports
	mu    sync.Mutex
	sent  int
}

func (l *sinkLink) Done() <-chan struct{} { return nil }

func (l *sinkLink) Send(_ context.Context, m *adapterpb.ToAdapter) error {
	l.mu.Lock()
	l.sent++
	l.mu.Unlock()
	go l.ports.Handle(l, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Sent{Sent: &adapterpb.Sent{Call: m.GetSend().GetCall()}}})
	return nil
}

func TestAPortKeepsItsRateAlsoWhenItsHandlerStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports := NewPorts()
		link := &sinkLink{ports: ports}
		limits := PortLimits{MaxInFlight: 8, Rate: 10}
		ports.Attach(link, "out", limits)
		began := time.Now()
		var sends sync.WaitGroup
		for i := range 50 {
			if i == 25 {
				sends.Wait()
				ports.Detach(link)
				ports.Attach(link, "out", limits)
			}
			sends.Go(func() {
				if err := ports.Send(t.Context(), "out", &Message{Id: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		sends.Wait()
		// The first ten may go at once, then ten a second.
		if took := time.Since(began); took < 3900*time.Millisecond || took > 4200*time.Millisecond || link.sent != 50 {
			t.Errorf("%d sends took %v", link.sent, took)
		}
	})
}
