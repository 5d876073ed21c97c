package api

import "net/http"

// VisitListCallbackEndpointsResponse writes the answer.
func (a answer) VisitListCallbackEndpointsResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitGetCallbackEndpointResponse writes the answer.
func (a answer) VisitGetCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitVerifyCallbackEndpointResponse writes the answer.
func (a answer) VisitVerifyCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitEnableCallbackEndpointResponse writes the answer.
func (a answer) VisitEnableCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitDisableCallbackEndpointResponse writes the answer.
func (a answer) VisitDisableCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitTestCallbackEndpointResponse writes the answer.
func (a answer) VisitTestCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitRecoverCallbackEndpointResponse writes the answer.
func (a answer) VisitRecoverCallbackEndpointResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitGetCallbackEndpointStatsResponse writes the answer.
func (a answer) VisitGetCallbackEndpointStatsResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitListCallbackEndpointDeliveriesResponse writes the answer.
func (a answer) VisitListCallbackEndpointDeliveriesResponse(w http.ResponseWriter) error {
	return a.write(w)
}

// VisitListDeliveriesResponse writes the answer.
func (a answer) VisitListDeliveriesResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitGetDeliveryResponse writes the answer.
func (a answer) VisitGetDeliveryResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitRedeliverDeliveryResponse writes the answer.
func (a answer) VisitRedeliverDeliveryResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitRedeliverDeliveriesResponse writes the answer.
func (a answer) VisitRedeliverDeliveriesResponse(w http.ResponseWriter) error { return a.write(w) }
