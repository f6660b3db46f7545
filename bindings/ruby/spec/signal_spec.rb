# frozen_string_literal: true

RSpec.describe "A signal" do
  # Says that a request has arrived, and answers it when a line comes.
  waiting = <<~RUBY
    module Waiting
      def self.call(env)
        if env["PATH_INFO"] == "/wait"
          warn "arrived"
          File.open(env["QUERY_STRING"], &:read)
        end
        [200, {}, ["done"]]
      end
    end
    run Waiting
  RUBY

  around do |example|
    Dir.mktmpdir do |directory|
      @gate = "#{directory}/gate"
      File.mkfifo(@gate)
      example.run
    end
  end

  Serving::WAYS.each do |way|
    %i[INT TERM].each do |signal|
      it "#{signal} lets requests finish: #{way.values.join(', ')}" do
        Serving::Command.run("-p", "0", "-w", "1", "-t", "1", "-m", way[:mode].to_s,
                             "--dispatch", way[:dispatch].to_s, rackup: waiting) do |kino|
          Client.open(kino.port) do |client|
            client.get("/wait?#{@gate}")
            kino.await_error(/^arrived$/)
            kino.signal(signal)
            # The drain has begun when nobody can connect any more; inline, not before the loop turns.
            refused?(kino.port) unless way[:dispatch] == :inline
            File.write(@gate, "go")
            expect(client.answer.body).to eq "done"
          end
          expect(kino.wait).to be_success
          expect(kino.errors).to eq ""
        end
      end
    end
  end

  it "ends the process at once when it comes twice" do
    Serving::Command.run("-p", "0", "-w", "1", "-t", "1", "-m", "threaded", rackup: waiting) do |kino|
      Client.open(kino.port) do |client|
        client.get("/wait?#{@gate}")
        kino.await_error(/^arrived$/)
        kino.signal(:TERM)
        refused?(kino.port)
        kino.signal(:TERM)
        expect(kino.wait.exitstatus).to eq 1
      end
    end
  end

  def refused?(port)
    loop { Client.open(port, &:close) }
  rescue Errno::ECONNREFUSED, Errno::ECONNRESET
    true
  end
end
