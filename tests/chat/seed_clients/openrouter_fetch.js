class OpenRouterAPI {
    constructor(apiKey, baseUrl = 'http://localhost:8000') {
        this.apiKey = apiKey;
        this.baseUrl = baseUrl;
        this.sessionId = null;
    }

    async chat(message, model = 'anthropic/claude-3.5-sonnet') {
        try {
            const response = await fetch(`${this.baseUrl}/chat`, {
                method: 'POST',
                headers: {
                    'Authorization': `Bearer ${this.apiKey}`,
                    'Content-Type': 'application/json',
                },
                body: JSON.stringify({
                    message: message,
                    model: model,
                    session_id: this.sessionId
                })
            });

            if (!response.ok) {
                throw new Error(`HTTP error! status: ${response.status}`);
            }

            const data = await response.json();
            this.sessionId = data.session_id;
            return data.response;

        } catch (error) {
            console.error('Erro no chat:', error);
            throw error;
        }
    }

    async getModels() {
        const response = await fetch(`${this.baseUrl}/models`);
        return await response.json();
    }
}

// Uso
const api = new OpenRouterAPI('sua_chave_openrouter');

api.chat('Olá, como você está?')
    .then(response => console.log(response))
    .catch(error => console.error(error));
