# frozen_string_literal: true

RSpec.describe "A worker that dies" do
  Serving::WAYS.each do |way|
    context "with #{way[:mode]} and #{way[:dispatch]}" do
      include_context "each way", way

      it "has its request answered by 500, and is replaced" do
        said = errors_of do
          serve(Apps::Waiting) do |server|
            3.times do
              expect(Client.get(server.port, "/kill").status).to eq 500
              expect(Client.get(server.port, "/").status).to eq 200
            end
          end
        end
        expect(said.scan(/^kino: a worker died and is replaced/).size).to eq 3
      end
    end
  end

  it "leaves the other threads of its Ractor to finish what they have" do
    (arrivals, arrived), (go, start) = pipes = Array.new(2) { IO.pipe }
    errors_of do
      serve(Apps::Waiting, mode: :ractor, threads: 2) do |server|
        Client.open(server.port) do |waiting|
          waiting.get("/?#{arrived.fileno}-#{go.fileno}")
          arrivals.sysread(1)
          expect(Client.get(server.port, "/kill").status).to eq 500
          start.syswrite(".")
          expect(waiting.answer.status).to eq 200
        end
        expect(Client.get(server.port, "/").status).to eq 200
      end
    end
  ensure
    pipes&.flatten&.each(&:close)
  end
end
