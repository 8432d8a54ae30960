curl http://localhost:8080/health
curl http://localhost:8080/api/sessions
curl -X DELETE http://localhost:8080/api/sessions/{session_id}
